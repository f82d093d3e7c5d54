package serve

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// The bounds of a plain request, in bytes and lines. Larger ones are left to
// net/http, which has its own.
const (
	plainHead    = 4 << 10
	plainBody    = 64 << 10
	plainHeaders = 32
)

// A verdict says what to do with the bytes that came.
type verdict int

const (
	plainIncomplete verdict = iota // read on
	plainOther                     // leave them, and the connection, to net/http
	plainWhole                     // a plain request, of which the body may be missing yet
)

const (
	plainMethod  = "POST /"
	plainVersion = " HTTP/1.1"
)

var (
	lineEnd = []byte("\r\n")
	headEnd = []byte("\r\n\r\n")
)

// A plainRequest is the head of a plain request.
type plainRequest struct {
	head   int // bytes of it
	body   int // bytes that follow it
	path   string
	host   string
	header http.Header
}

// readPlain reads the head of the plain request that b begins with: a POST to a
// path without a query, with a body whose length it says, and with headers that
// change nothing about how it is read. All else, every oddity included, is for
// net/http. So what is taken here is a part of what net/http takes, with the same
// meaning; a fuzz test holds it to that. The request keeps nothing of b.
func readPlain(b []byte) (plainRequest, verdict) {
	if n := min(len(b), len(plainMethod)); string(b[:n]) != plainMethod[:n] {
		return plainRequest{}, plainOther
	}
	at := bytes.Index(b[:min(len(b), plainHead)], headEnd)
	switch {
	case at < 0 && len(b) >= plainHead:
		return plainRequest{}, plainOther
	case at < 0:
		return plainRequest{}, plainIncomplete
	}
	line, rest, _ := strings.Cut(string(b[:at+len(lineEnd)]), "\r\n")
	path, ok := strings.CutSuffix(line, plainVersion)
	if !ok {
		return plainRequest{}, plainOther
	}
	r := plainRequest{head: at + len(headEnd), path: path[len(plainMethod)-1:]}
	if !isPlainPath(r.path) || !r.readHeaders(rest) {
		return plainRequest{}, plainOther
	}
	return r, plainWhole
}

// readHeaders reads lines of headers, each with its end.
func (r *plainRequest) readHeaders(lines string) bool {
	count := strings.Count(lines, "\n")
	if count > plainHeaders {
		return false
	}
	r.header = make(http.Header, count)
	values := make([]string, 0, count) // of all headers, in one piece
	for lines != "" {
		line, rest, ok := strings.Cut(lines, "\r\n")
		lines = rest
		name, value, colon := strings.Cut(line, ":")
		if !ok || !colon || !isPlainName(name) || !isPlainText(value) {
			return false
		}
		name, value = plainName(name), strings.Trim(value, " \t")
		switch name {
		case "Host":
			if r.host != "" || !isPlainHost(value) {
				return false
			}
			r.host = value
			continue
		case "Content-Length":
			if r.body != 0 || !r.readLength(value) {
				return false
			}
		case "Connection", "Expect", "Keep-Alive", "Pragma", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
			return false
		}
		if more, ok := r.header[name]; ok {
			r.header[name] = append(more, value)
			continue
		}
		values = append(values, value)
		r.header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	return r.host != "" && r.body != 0
}

// readLength reads how long the body is: digits, and neither none nor too many.
func (r *plainRequest) readLength(value string) bool {
	if value == "" || len(value) > len("65536") || value[0] == '0' {
		return false
	}
	for _, c := range []byte(value) {
		if c < '0' || c > '9' {
			return false
		}
		r.body = 10*r.body + int(c-'0')
	}
	return r.body <= plainBody
}

// request returns the request with its body, made from template.
func (r *plainRequest) request(template *http.Request, body []byte) *http.Request {
	made := new(http.Request)
	*made = *template
	made.URL = &url.URL{Path: r.path}
	made.RequestURI, made.Host, made.Header = r.path, r.host, r.header
	made.ContentLength, made.Body = int64(len(body)), &wholeBody{unread: body}
	return made
}

// A wholeBody is a body that is in memory.
type wholeBody struct{ unread []byte }

// rest returns what was not read yet, and takes it for read.
func (b *wholeBody) rest() []byte {
	rest := b.unread
	b.unread = nil
	return rest
}

// plainName returns the name under which net/http has a header.
func plainName(name string) string {
	switch name { // what comes with every request, as it is or as others spell it
	case "Host", "Content-Type", "Content-Length", "User-Agent", "Accept-Encoding", "Traceparent", "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature":
		return name
	case "webhook-id":
		return "Webhook-Id"
	case "webhook-timestamp":
		return "Webhook-Timestamp"
	case "webhook-signature":
		return "Webhook-Signature"
	}
	return textproto.CanonicalMIMEHeaderKey(name)
}

// isPlainPath reports whether s is a path that stands for itself. It begins with
// a slash.
func isPlainPath(s string) bool {
	for i, c := range []byte(s) {
		if !isAlphanumeric(c) && c != '-' && c != '_' && (c != '/' || i > 0 && s[i-1] == '/') {
			return false
		}
	}
	return true
}

func isPlainName(s string) bool {
	for _, c := range []byte(s) {
		if !isAlphanumeric(c) && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

// isPlainText reports whether s is of printable ASCII, spaces and tabs.
func isPlainText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c-' ' >= 0x7f-' ' && c != '\t' {
			return false
		}
	}
	return true
}

func isPlainHost(s string) bool {
	for _, c := range []byte(s) {
		if !isAlphanumeric(c) && c != '.' && c != '-' && c != ':' && c != '[' && c != ']' {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
