package token

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// maxHeaders bounds how many headers of tokens are remembered. An issuer has
// one for each key it signs with.
const maxHeaders = 64

// headers remembers what the headers of good tokens said, by their spelling:
// nearly all tokens of an issuer share it. Only who can sign adds to them.
type headers struct {
	mu   sync.RWMutex // guards what follows
	read map[string]header
}

// A header is what a token's first part says.
type header struct {
	method jwt.SigningMethod
	kid    string
}

func (h *headers) find(text string) (header, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	found, ok := h.read[text]
	return found, ok
}

// keep remembers the header that t, which counts, begins with. When there are
// too many, all others are forgotten.
func (h *headers) keep(t *jwt.Token) {
	text, _, _ := strings.Cut(t.Raw, ".")
	kid, _ := t.Header["kid"].(string)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.read == nil || len(h.read) >= maxHeaders {
		h.read = make(map[string]header)
	}
	h.read[strings.Clone(text)] = header{t.Method, kid}
}

// openQuick does what open does where the token's header is a known one and its
// keys are at hand. Where ok is false it says nothing of the token, and has
// computed no signature.
func (v *Verifier) openQuick(text string) (payload []byte, ok bool, err error) {
	end := strings.LastIndexByte(text, '.')
	if end < 0 {
		return nil, false, nil
	}
	first, second, ok := strings.Cut(text[:end], ".")
	if !ok {
		return nil, false, nil
	}
	head, ok := v.headers.find(first)
	if !ok || strings.IndexByte(second, '.') >= 0 {
		return nil, false, nil
	}
	encoding := base64.RawURLEncoding.Strict()
	signature, err := encoding.DecodeString(text[end+1:])
	if err != nil {
		return nil, false, nil
	}
	set, err := v.keysFor(head.method.Alg(), head.kid, v.jwks.findNow) // who waits does so in open
	if err != nil {
		return nil, false, nil
	}
	if payload, err = encoding.DecodeString(second); err != nil {
		return nil, false, nil
	}
	for _, key := range set.Keys {
		if err = head.method.Verify(text[:end], signature, key); err == nil {
			return payload, true, nil
		}
	}
	return nil, true, fmt.Errorf("%w: %w: %w", ErrInvalid, jwt.ErrTokenSignatureInvalid, err)
}

// quickClaims reads a payload of the form that most have: an object without
// nesting, of strings without escapes in ASCII, plain numbers and lists of such
// strings. Where ok is false it is for parseClaims, of which this is a part.
func quickClaims(payload []byte) (c claims, ok bool) {
	r := reader{rest: payload}
	if !r.take('{') {
		return claims{}, false
	}
	for first := true; !r.take('}'); first = false {
		if !first && !r.take(',') {
			return claims{}, false
		}
		name, ok := r.text()
		if !ok || !r.take(':') || !r.claim(name, &c) {
			return claims{}, false
		}
	}
	r.space()
	return c, len(r.rest) == 0
}

// A reader reads plain JSON. What it does not read may be right nevertheless.
type reader struct {
	rest []byte
}

func (r *reader) space() {
	for len(r.rest) > 0 && r.rest[0] == ' ' {
		r.rest = r.rest[1:]
	}
}

// take takes the byte b, and spaces before it.
func (r *reader) take(b byte) bool {
	r.space()
	if len(r.rest) == 0 || r.rest[0] != b {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

// text reads a string.
func (r *reader) text() ([]byte, bool) {
	if !r.take('"') {
		return nil, false
	}
	for i, b := range r.rest {
		switch {
		case b == '"':
			s := r.rest[:i]
			r.rest = r.rest[i+1:]
			return s, true
		case b < ' ' || b == '\\' || b >= 0x80:
			return nil, false
		}
	}
	return nil, false
}

// list reads a list of strings.
func (r *reader) list() ([]string, bool) {
	if !r.take('[') {
		return nil, false
	}
	list := []string{}
	for !r.take(']') {
		if len(list) > 0 && !r.take(',') {
			return nil, false
		}
		s, ok := r.text()
		if !ok {
			return nil, false
		}
		list = append(list, string(s))
	}
	return list, true
}

// number reads a number without sign and exponent.
func (r *reader) number() (float64, bool) {
	r.space()
	n, points := 0, 0
	for n < len(r.rest) && (r.rest[n] >= '0' && r.rest[n] <= '9' || r.rest[n] == '.') {
		if r.rest[n] == '.' {
			points++
		}
		n++
	}
	digits := r.rest[:n]
	if n == 0 || n > 24 || points > 1 || digits[0] == '.' || digits[n-1] == '.' || n > 1 && digits[0] == '0' {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(digits), 64)
	r.rest = r.rest[n:]
	return f, err == nil
}

// claim reads the value of the claim of that name into c.
func (r *reader) claim(name []byte, c *claims) bool {
	r.space()
	switch string(name) {
	case "sub":
		c.hasSub = true
		return r.textInto(&c.sub)
	case "jti":
		return r.textInto(&c.jti)
	case "iss":
		return r.textInto(&c.iss)
	case "exp":
		return r.dateInto(&c.exp)
	case "nbf":
		return r.dateInto(&c.nbf)
	case "iat":
		return r.dateInto(&c.iat)
	case "channels":
		return r.listInto(&c.channels)
	case "topics":
		return r.listInto(&c.topics)
	case "aud":
		if len(r.rest) > 0 && r.rest[0] == '[' {
			return r.listInto(&c.aud)
		}
		c.aud = make([]string, 1)
		return r.textInto(&c.aud[0])
	case "info", "b64info", "subs":
		return false
	}
	if len(r.rest) > 0 && r.rest[0] == '"' {
		_, ok := r.text()
		return ok
	}
	_, ok := r.number()
	return ok
}

func (r *reader) textInto(dst *string) bool {
	s, ok := r.text()
	*dst = string(s)
	return ok
}

func (r *reader) listInto(dst *[]string) (ok bool) {
	*dst, ok = r.list()
	return ok
}

func (r *reader) dateInto(dst *time.Time) bool {
	seconds, ok := r.number()
	if !ok || seconds > maxDate {
		return false
	}
	*dst = dateOf(seconds)
	return true
}
