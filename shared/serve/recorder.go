package serve

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"pushcluster/shared/push"
)

// errTooLarge ends an answer that Lambda would not take.
var errTooLarge = errors.New("the answer is over Lambda's limit of 6 MiB")

// A recorder keeps what a handler answers, until it can be sent as one event.
// It does what net/http does: a status of 200 where none is given, nothing in
// the body of answers that have none, a content type guessed where none is set.
type recorder struct {
	method string
	header http.Header
	sent   http.Header // as it was when the status was written; nil before
	status int
	body   []byte
	over   bool
}

func newRecorder(method string) *recorder {
	return &recorder{method: method, header: make(http.Header)}
}

// Header returns the header that WriteHeader will send.
func (w *recorder) Header() http.Header { return w.header }

// WriteHeader sets the status. The first final one counts.
func (w *recorder) WriteHeader(status int) {
	if w.sent != nil || status < 200 {
		return
	}
	w.status, w.sent = status, w.header.Clone()
}

// Write adds to the body. It fails beyond Lambda's limit.
func (w *recorder) Write(b []byte) (int, error) {
	if w.sent == nil {
		if w.header.Get("Content-Type") == "" && len(b) > 0 {
			w.header.Set("Content-Type", http.DetectContentType(b))
		}
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.status == http.StatusNoContent || w.status == http.StatusNotModified:
		return 0, http.ErrBodyNotAllowed
	case w.method == http.MethodHead:
		return len(b), nil
	case w.over || len(w.body)+len(b) > maxPayload:
		w.over = true
		return 0, errTooLarge
	}
	w.body = append(w.body, b...)
	return len(b), nil
}

// Flush does nothing: the answer goes as a whole.
func (w *recorder) Flush() {}

// An eventAnswer is an answer in payload format 2.0.
type eventAnswer struct {
	Status          int               `json:"statusCode"`
	Headers         map[string]string `json:"headers,omitempty"`
	Cookies         []string          `json:"cookies,omitempty"`
	Body            string            `json:"body"`
	IsBase64Encoded bool              `json:"isBase64Encoded"`
}

// payload returns the answer as Lambda wants it. One that is too large becomes
// a 500 problem.
func (w *recorder) payload(r *http.Request) []byte {
	if w.sent == nil {
		w.WriteHeader(http.StatusOK)
	}
	if !w.over {
		if raw := w.encode(); len(raw) <= maxPayload {
			return raw
		}
	}
	return broken(r, "the answer is larger than can be sent")
}

// encode returns the answer as JSON: the body as text where it is text and that
// fits, else in base64.
func (w *recorder) encode() []byte {
	a := eventAnswer{Status: w.status, Headers: make(map[string]string, len(w.sent))}
	for name, values := range w.sent {
		switch name {
		case "Set-Cookie":
			a.Cookies = slices.Clone(values)
		case "Connection", "Transfer-Encoding", "Keep-Alive": // of this hop
		default:
			a.Headers[name] = strings.Join(values, ", ")
		}
	}
	if utf8.Valid(w.body) && w.sent.Get("Content-Encoding") == "" {
		a.Body = string(w.body)
		if raw := mustEncode(a); len(raw) <= maxPayload {
			return raw
		}
	}
	a.Body, a.IsBase64Encoded = base64.StdEncoding.EncodeToString(w.body), true
	return mustEncode(a)
}

// broken returns a 500 problem as Lambda wants it.
func broken(r *http.Request, detail string) []byte {
	w := newRecorder(http.MethodGet)
	Problem(w, r, push.NewProblem(push.CodeInternal, "%s", detail))
	return w.encode()
}

// mustEncode encodes a struct of strings and numbers, which cannot fail.
func mustEncode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}
