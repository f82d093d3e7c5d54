package serve

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"

	"pushcluster/shared/push"
)

// retryAfter is what 429 and 503 tell clients to wait, in seconds.
const retryAfter = "1"

// JSON answers with status and v as JSON. If v cannot be encoded, which is a
// mistake of ours, it answers 500 instead. Headers set before are kept.
func JSON(w http.ResponseWriter, status int, v any) {
	body, err := encode(v)
	if err != nil {
		status = http.StatusInternalServerError
		w.Header().Set("Content-Type", "application/problem+json")
		body, _ = encode(push.NewProblem(push.CodeInternal, "the answer could not be written"))
	}
	JSONText(w, status, body)
}

// JSONText answers with status and body, which is JSON and ends with a new line.
// Headers set before are kept.
func JSONText(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) // a client that left hears nothing, and needs nothing
}

// Problem answers with p as application/problem+json, its Instance set to the
// path of r. 429 and 503 carry Retry-After, 401 for want of an API key carries
// WWW-Authenticate. It does not modify p.
func Problem(w http.ResponseWriter, r *http.Request, p *push.Problem) {
	told := *p
	if told.Instance == "" {
		told.Instance = r.URL.EscapedPath()
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	switch told.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if h.Get("Retry-After") == "" {
			h.Set("Retry-After", retryAfter)
		}
	case http.StatusUnauthorized:
		if told.Code == push.CodeUnauthorized {
			h.Set("WWW-Authenticate", "Bearer")
		}
	}
	JSON(w, told.Status, told)
}

// encode is json.Marshal without HTML escapes: nobody puts our answers into a
// page unescaped, and '<' should stay one byte.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
