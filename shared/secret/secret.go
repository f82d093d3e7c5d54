// Package secret finds secrets where they are kept and reads the lists that
// hold several: API keys by name and signing secrets newest first. Nothing here
// ever puts a secret into an error or a log.
package secret

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// ErrUnsupported means that a value names a place where no secrets are looked
// for.
var ErrUnsupported = errors.New("secrets are only looked for in Secrets Manager")

// maxFile is the largest file that a value is read from, in bytes.
const maxFile = 64 << 10

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err // names the file and what is wrong with it
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", err
	}
	if len(content) > maxFile {
		return "", fmt.Errorf("file:%s is larger than %d bytes", path, maxFile)
	}
	found := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if found == "" {
		return "", fmt.Errorf("file:%s is empty", path)
	}
	return found, nil
}

// A List is several secrets, the newest first. It prints as their number.
type List []string

// ParseList reads secrets separated by commas or newlines. Space around them
// does not count. Errors tell the place in the list, never its content.
func ParseList(text string) (List, error) {
	var list List
	for i, s := range split(text) {
		if s == "" {
			return nil, fmt.Errorf("secret %d is empty", i+1)
		}
		list = append(list, s)
	}
	return list, nil
}

// UnmarshalText reads a list as [ParseList] does.
func (l *List) UnmarshalText(text []byte) (err error) {
	*l, err = ParseList(string(text))
	return err
}

// String tells how many secrets there are.
func (l List) String() string { return fmt.Sprintf("[%d secrets]", len(l)) }

// GoString is String.
func (l List) GoString() string { return l.String() }

// LogValue is String.
func (l List) LogValue() slog.Value { return slog.StringValue(l.String()) }

// split cuts a list at commas and newlines; the empty text is an empty list,
// and a last newline ends the last secret.
func split(text string) []string {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil
	}
	parts := strings.FieldsFunc(strings.ReplaceAll(text, "\r\n", "\n"), func(r rune) bool { return r == '\n' })
	var list []string
	for _, line := range parts {
		for s := range strings.SplitSeq(strings.TrimSuffix(strings.TrimSpace(line), ","), ",") {
			list = append(list, strings.TrimSpace(s))
		}
	}
	return list
}
