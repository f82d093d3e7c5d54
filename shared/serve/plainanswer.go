package serve

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Read reads on (io.Reader).
func (b *wholeBody) Read(p []byte) (int, error) {
	if len(b.unread) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.unread)
	b.unread = b.unread[n:]
	return n, nil
}

// Close does nothing (io.Closer).
func (b *wholeBody) Close() error { return nil }

// A plainAnswer is the answer to a plain request, kept until its handler has
// returned (http.ResponseWriter).
type plainAnswer struct {
	header http.Header
	status int // 0: not set yet
	body   []byte
}

// Header returns the header that will be sent.
func (a *plainAnswer) Header() http.Header { return a.header }

// WriteHeader sets the status; the first one counts, and those that only tell of
// another to come are not sent.
func (a *plainAnswer) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK {
		a.status = status
	}
}

// Write adds to the body.
func (a *plainAnswer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if !a.mayHaveBody() {
		return 0, http.ErrBodyNotAllowed
	}
	a.body = append(a.body, p...)
	return len(p), nil
}

func (a *plainAnswer) mayHaveBody() bool {
	return a.status != http.StatusNoContent && a.status != http.StatusNotModified
}

// reset makes it the answer to another request.
func (a *plainAnswer) reset() {
	clear(a.header)
	a.status, a.body = 0, a.body[:0]
}

// append appends the whole answer to dst, dated date. last says that it is the
// last on its connection.
func (a *plainAnswer) append(dst []byte, date string, last bool) []byte {
	a.WriteHeader(http.StatusOK)
	dst = strconv.AppendInt(append(dst, "HTTP/1.1 "...), int64(a.status), 10)
	dst = append(append(append(dst, ' '), http.StatusText(a.status)...), "\r\n"...)
	for name, values := range a.header {
		switch name {
		case "Content-Length", "Connection", "Date", "Transfer-Encoding":
			continue // are ours to say
		}
		for _, value := range values {
			dst = appendHeader(dst, name, value)
		}
	}
	if len(a.body) > 0 && a.header["Content-Type"] == nil {
		dst = appendHeader(dst, "Content-Type", http.DetectContentType(a.body))
	}
	dst = appendHeader(dst, "Date", date)
	if a.mayHaveBody() {
		dst = strconv.AppendInt(append(dst, "Content-Length: "...), int64(len(a.body)), 10)
		dst = append(dst, "\r\n"...)
	}
	if last {
		dst = append(dst, "Connection: close\r\n"...)
	}
	return append(append(dst, "\r\n"...), a.body...)
}

// appendHeader appends a header. One that cannot be sent as it stands is left
// out, or loses its line ends.
func appendHeader(dst []byte, name, value string) []byte {
	if !isPlainName(name) {
		return dst
	}
	dst = append(append(dst, name...), ": "...)
	if strings.ContainsAny(value, "\r\n") {
		value = strings.NewReplacer("\r", " ", "\n", " ").Replace(value)
	}
	return append(append(dst, value...), "\r\n"...)
}

// A dater tells the date as answers have it. One goroutine owns it.
type dater struct {
	second int64
	text   string
}

func (d *dater) at(now time.Time) string {
	if s := now.Unix(); s != d.second || d.text == "" {
		d.second, d.text = s, now.UTC().Format(http.TimeFormat)
	}
	return d.text
}
