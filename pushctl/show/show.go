// Package show writes what a command has to tell: tables and lines for people,
// JSON for scripts, and a line of progress while something takes long.
//
// What comes from elsewhere cannot command the terminal: control characters in
// it are replaced.
package show

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Printer writes what a command tells. Its methods are for one goroutine.
type Printer struct {
	Out    io.Writer
	JSON   bool // for scripts: no table, one JSON value a line
	Colour bool
}

// Interactive reports whether w is a terminal that a person looks at.
func Interactive(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && info.Mode()&os.ModeDevice != 0
}

// Raw writes one JSON value on a line of its own.
func (p *Printer) Raw(value json.RawMessage) error {
	var line bytes.Buffer
	if err := json.Compact(&line, value); err != nil {
		return fmt.Errorf("show an answer: %w", err)
	}
	line.WriteByte('\n')
	_, err := p.Out.Write(line.Bytes())
	return err
}

// Value writes v as JSON on a line of its own.
func (p *Printer) Value(v any) error {
	line, err := Encode(v)
	if err != nil {
		return err
	}
	_, err = p.Out.Write(append(line, '\n'))
	return err
}

// Encode returns v as JSON in which <, > and & stand as they are: it is for no
// web page.
func Encode(v any) ([]byte, error) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}

// Linef writes one line for people (format as in fmt.Sprintf).
func (p *Printer) Linef(format string, args ...any) error {
	_, err := fmt.Fprintln(p.Out, Clean(fmt.Sprintf(format, args...)))
	return err
}

// Time is how times are told: RFC 3339 in UTC, to the second; "–" for none.
func Time(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format(time.RFC3339)
}

// Clean returns s with every control character, and what may reorder a line,
// replaced.
func Clean(s string) string {
	if !strings.ContainsFunc(s, commands) && utf8.ValidString(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if commands(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// commands reports whether r does something else than stand there: control
// characters, and those that change the direction of what follows.
func commands(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
}
