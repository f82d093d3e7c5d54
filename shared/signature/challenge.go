package signature

import (
	"net/http"
	"strconv"
	"strings"
)

// An Answer is what a sender wants to hear that is not sending anything yet.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Challenge returns the answer to a webhook that only asks whether we are here,
// ok false if it is an ordinary one. value is the body decoded from JSON. The
// webhook must have been verified before.
func (r *Receiver) Challenge(value any) (a Answer, ok bool) {
	object, _ := value.(map[string]any)
	if !r.scheme.slack || object["type"] != "url_verification" {
		return Answer{}, false
	}
	challenge, _ := object["challenge"].(string)
	if challenge == "" {
		return Answer{}, false
	}
	return Answer{
		Status: http.StatusOK,
		Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}, "X-Content-Type-Options": {"nosniff"}},
		Body:   []byte(challenge),
	}, true
}

// maxOrigin bounds the origin of a handshake, in bytes: a DNS name.
const maxOrigin = 255

// Handshake returns the answer to the OPTIONS request by which a sender of
// CloudEvents asks for leave to send (HTTP 1.1 Web Hooks for Event Delivery,
// section 4), ok false if h does not ask. The leave is for the origin that asks,
// because only signatures count here, at up to perMinute requests a minute, 0
// for any number.
func Handshake(h http.Header, perMinute int) (a Answer, ok bool) {
	origin := h.Get("WebHook-Request-Origin")
	if origin == "" || len(origin) > maxOrigin || strings.ContainsFunc(origin, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return Answer{}, false
	}
	answer := http.Header{"Allow": {"POST, OPTIONS"}, "Webhook-Allowed-Origin": {origin}}
	rate := "*"
	if perMinute > 0 {
		rate = strconv.Itoa(perMinute)
	}
	answer.Set("WebHook-Allowed-Rate", rate)
	return Answer{Status: http.StatusOK, Header: answer}, true
}
