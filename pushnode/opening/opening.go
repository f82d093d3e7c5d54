// Package opening reads the HTTP request that opens a WebSocket, and no other.
// It takes what browsers and SDKs send and leaves everything else, all that is
// odd included, to net/http: so what it takes is a part of what net/http takes,
// with the same meaning. A fuzz test holds it to that.
package opening

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
)

// The bounds of a request that is read here. Larger ones are left to net/http,
// which has its own.
const (
	MaxBytes   = 16 << 10 // line and headers; a token has at most 8 KiB
	maxHeaders = 64
)

// A Verdict says what to do with the bytes that came.
type Verdict int

// The verdicts.
const (
	Incomplete Verdict = iota // read on
	Other                     // leave them, and the connection, to net/http
	Opening                   // a request, and nothing behind it
)

const (
	method  = "GET "
	version = " HTTP/1.1"
)

var (
	lineEnd = []byte("\r\n")
	end     = []byte("\r\n\r\n")
)

// A Reader reads one request after another, all into the same memory. Its zero
// value is ready.
type Reader struct {
	request http.Request
	url     url.URL
	header  http.Header
	values  []string // of all headers, in one piece
}

// maxKept is of how many headers the memory is kept.
const maxKept = 16

// Read reads the request to open a WebSocket at path that b is. The request
// keeps nothing of b. It is good until the next Read; its texts are so for ever.
func (rd *Reader) Read(b []byte, path string) (*http.Request, Verdict) {
	if !mayBecome(b, path) {
		return nil, Other
	}
	at := bytes.Index(b, end)
	switch {
	case at < 0 && len(b) >= MaxBytes:
		return nil, Other
	case at < 0:
		return nil, Incomplete
	case at+len(end) != len(b) || len(b) > MaxBytes:
		return nil, Other // who sends more before the answer is no WebSocket client
	}
	text := string(b[:at+len(lineEnd)])
	line, rest, _ := strings.Cut(text, "\r\n")
	target, ok := strings.CutSuffix(line, version)
	if !ok {
		return nil, Other
	}
	headers := min(strings.Count(rest, "\n"), maxHeaders)
	rd.reset(headers)
	r := &rd.request
	*r = http.Request{
		Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: rd.header, Body: http.NoBody, RequestURI: target[len(method):], URL: &rd.url,
	}
	if rd.url, ok = readTarget(r.RequestURI, path); !ok || !readHeaders(r, rest, rd.values) || !opens(r.Header) {
		return nil, Other
	}
	return r, Opening
}

// reset makes room for a request with that many headers.
func (rd *Reader) reset(headers int) {
	if rd.header == nil || headers > maxKept || cap(rd.values) > maxKept {
		rd.header, rd.values = make(http.Header, headers), make([]string, 0, headers)
		return
	}
	clear(rd.header)
	clear(rd.values[:cap(rd.values)])
	rd.values = slices.Grow(rd.values[:0], headers)
}

// mayBecome reports whether b begins as the request does, as far as it goes.
func mayBecome(b []byte, path string) bool {
	for i, want := range []byte(method + path) {
		if i == len(b) {
			return true
		}
		if b[i] != want {
			return false
		}
	}
	return true
}

// readTarget reads path, with or without a query.
func readTarget(target, path string) (url.URL, bool) {
	query := target[len(path):]
	if query == "" {
		return url.URL{Path: path}, true
	}
	for _, c := range []byte(query) {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return url.URL{}, false
		}
	}
	if query[0] != '?' || query == "?" {
		return url.URL{}, false
	}
	return url.URL{Path: path, RawQuery: query[1:]}, true
}

// readHeaders reads lines of headers, each with its end, into r. The values are
// put into the memory of values, which has room for them.
func readHeaders(r *http.Request, lines string, values []string) bool {
	hosts := 0
	for count := 0; lines != ""; count++ {
		line, rest, ok := strings.Cut(lines, "\r\n")
		lines = rest
		name, value, colon := strings.Cut(line, ":")
		if !ok || !colon || count == maxHeaders || !isToken(name) || !isText(value) {
			return false
		}
		name, value = canonical(name), strings.Trim(value, " \t")
		switch name {
		case "Host":
			hosts++
			r.Host = value
		case "Content-Length", "Transfer-Encoding", "Trailer", "Expect":
			return false // a request with a body, or the wish for one, opens nothing
		default:
			if more, ok := r.Header[name]; ok {
				r.Header[name] = append(more, value)
				continue
			}
			values = append(values, value)
			r.Header[name] = values[len(values)-1 : len(values) : len(values)]
		}
	}
	if r.Header.Get("Pragma") == "no-cache" && len(r.Header["Cache-Control"]) == 0 {
		r.Header["Cache-Control"] = []string{"no-cache"} // as net/http has it
	}
	return hosts == 1 && isHost(r.Host)
}

// canonical returns the name under which net/http has a header. Clients spell
// those of WebSocket as RFC 6455 does, which would be written anew each time.
func canonical(name string) string {
	switch name {
	case "Sec-WebSocket-Key":
		return "Sec-Websocket-Key"
	case "Sec-WebSocket-Version":
		return "Sec-Websocket-Version"
	case "Sec-WebSocket-Protocol":
		return "Sec-Websocket-Protocol"
	case "Sec-WebSocket-Extensions":
		return "Sec-Websocket-Extensions"
	}
	return textproto.CanonicalMIMEHeaderKey(name)
}

// opens reports whether the headers are those of a WebSocket handshake. What is
// in them is for the upgrader.
func opens(h http.Header) bool {
	return len(h["Upgrade"]) == 1 && strings.EqualFold(h["Upgrade"][0], "websocket") &&
		len(h["Connection"]) == 1 && len(h["Sec-Websocket-Key"]) == 1
}

func isToken(s string) bool {
	for _, c := range []byte(s) {
		if !isAlphanumeric(c) && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

// isText reports whether s is of printable ASCII, spaces and tabs.
func isText(s string) bool {
	for _, c := range []byte(s) {
		if c != '\t' && (c < ' ' || c >= 0x7f) {
			return false
		}
	}
	return true
}

func isHost(s string) bool {
	for _, c := range []byte(s) {
		if !isAlphanumeric(c) && !strings.ContainsRune(".-_:[]", rune(c)) {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
