package signature

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"pushcluster/shared/push"
)

// A Receiver checks the webhooks of one sender. It may be used by several
// goroutines.
type Receiver struct {
	scheme   Scheme
	template []templatePart
	keys     []receiverKey
	retired  []receiverKey
}

// NewReceiver returns a receiver of webhooks that are signed by scheme with any
// of secrets. There must be one or more; what they look like depends on the
// scheme:
//
//   - HMAC: any text, taken as it is; a Standard Webhooks one without its
//     whsec_, as base64
//   - Ed25519: whpk_ and base64, base64 or hexadecimal of the 32 bytes, or PEM
//   - ECDSA: base64 or PEM of the public key (PKIX)
//   - a shared token: any text; basic auth: USER:PASSWORD
//   - a token that holds the body's hash: PEM of the public key, or any text
//
// retired are secrets that count no more: a webhook that one of them has signed
// is refused with [ErrRetired], so that whoever forgot a sender in a rotation is
// told. Errors name a secret's place in its list, never what it is.
func NewReceiver(scheme Scheme, secrets []string, retired ...string) (*Receiver, error) {
	scheme = scheme.WithDefaults()
	if err := scheme.Check(); err != nil {
		return nil, err
	}
	r := &Receiver{scheme: scheme}
	if scheme.covers() {
		r.template, _ = parseTemplate(scheme.Template) // Check has parsed it
	}
	if len(secrets) == 0 {
		return nil, errors.New("there is no secret")
	}
	var err error
	if r.keys, err = scheme.parseKeys(secrets, "secret"); err != nil {
		return nil, err
	}
	if r.retired, err = scheme.parseKeys(retired, "retired secret"); err != nil {
		return nil, err
	}
	return r, nil
}

func (s Scheme) parseKeys(texts []string, what string) ([]receiverKey, error) {
	var keys []receiverKey
	for i, text := range texts {
		key, err := s.parseKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s %d: %w", what, i+1, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Scheme returns the scheme, with its defaults.
func (r *Receiver) Scheme() Scheme { return r.scheme }

// Secrets returns how many secrets there are.
func (r *Receiver) Secrets() int { return len(r.keys) }

// A signed is one webhook as its signature was made: the texts as they came.
type signed struct {
	id, timestamp string
	body          []byte
}

// Verify checks a webhook that arrived at now with these headers and the raw
// bytes of its body, and returns when it was signed, the zero time if the
// sender does not say. Its error wraps [ErrMissing], [ErrSignature], which
// [ErrRetired] is one of, or, only where the signature is right, [ErrTooOld] or
// [ErrTooNew]. The time it takes does not tell how much of a signature was right.
func (r *Receiver) Verify(h http.Header, body []byte, now time.Time) (time.Time, error) {
	at, err := r.verify(r.keys, h, body, now)
	if len(r.retired) == 0 || !errors.Is(err, ErrSignature) {
		return at, err
	}
	// A webhook of long ago by a retired secret is both; the secret is what to repair.
	if _, old := r.verify(r.retired, h, body, now); old == nil || errors.Is(old, ErrStale) {
		return time.Time{}, ErrRetired
	}
	return at, err
}

func (r *Receiver) verify(keys []receiverKey, h http.Header, body []byte, now time.Time) (time.Time, error) {
	header := h.Get(r.scheme.Header)
	switch {
	case header == "":
		return time.Time{}, fmt.Errorf("%w: there is no %s", ErrMissing, r.scheme.Header)
	case len(header) > maxHeader:
		return time.Time{}, fmt.Errorf("%w: %s is longer than %d bytes", ErrMissing, r.scheme.Header, maxHeader)
	}
	if !r.scheme.covers() {
		return time.Time{}, r.verifyToken(keys, header)
	}
	if r.scheme.bodyToken {
		return r.verifyBodyToken(keys, header, body, now)
	}
	parts := r.cut(header)
	s, at, err := r.signed(h, parts, body)
	if err != nil {
		return time.Time{}, err
	}
	if err := r.matches(keys, parts, s); err != nil {
		return time.Time{}, err
	}
	if r.scheme.Timestamp != "" {
		if err := checkAge(at, now, r.scheme.Tolerance); err != nil {
			return time.Time{}, err
		}
	}
	return at, nil
}

// cut returns the parts of the header; at most maxSignatures are looked at.
func (r *Receiver) cut(header string) []string {
	if r.scheme.Separator == "" {
		return []string{header}
	}
	parts := strings.SplitN(header, r.scheme.Separator, maxSignatures+1)
	parts = parts[:min(len(parts), maxSignatures)]
	for i, p := range parts {
		parts[i] = strings.TrimSpace(p)
	}
	return parts
}

// signed collects what the template names.
func (r *Receiver) signed(h http.Header, parts []string, body []byte) (signed, time.Time, error) {
	s, at := signed{body: body}, time.Time{}
	for _, part := range r.template {
		switch part.name {
		case "id":
			name := strings.TrimPrefix(r.scheme.ID, "header:")
			if s.id = h.Get(name); !validID(s.id) || len(h.Values(name)) > 1 {
				return s, at, fmt.Errorf("%w: %s", ErrMissing, name)
			}
		case "timestamp":
			ok := false
			if s.timestamp, ok = r.timestamp(h, parts); ok {
				at, ok = r.parseTime(s.timestamp)
			}
			if !ok {
				return s, at, fmt.Errorf("%w: %s", ErrMissing, r.scheme.Timestamp)
			}
		}
	}
	return s, at, nil
}

// timestamp finds the text of the time of signing; it must occur once.
func (r *Receiver) timestamp(h http.Header, parts []string) (text string, ok bool) {
	if !strings.HasSuffix(r.scheme.Timestamp, "=") {
		values := h.Values(r.scheme.Timestamp)
		if len(values) != 1 {
			return "", false
		}
		return values[0], true
	}
	for _, p := range parts {
		if found, is := strings.CutPrefix(p, r.scheme.Timestamp); is {
			if ok {
				return "", false
			}
			text, ok = found, true
		}
	}
	return text, ok
}

// firstMilli is the number from which on a time is milliseconds: as seconds it
// lies in the year 5138, as milliseconds in 1973.
const firstMilli = 100_000_000_000

// parseTime reads a time of signing. Digits have one form only: what is signed
// is the text.
func (r *Receiver) parseTime(text string) (time.Time, bool) {
	if r.scheme.standard {
		return parseTimestamp(text)
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n < 0 || strconv.FormatInt(n, 10) != text {
			return time.Time{}, false
		}
		if n >= firstMilli {
			return time.UnixMilli(n), true
		}
		return time.Unix(n, 0), true
	}
	if len(text) > len(time.RFC3339Nano)+5 {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	return at, err == nil
}

// matches returns nil if a part is a signature of s by one of the keys. Every
// key is tried with every part, whatever came before.
func (r *Receiver) matches(keys []receiverKey, parts []string, s signed) error {
	present, matched := false, false
	for _, key := range keys {
		var check func(given []byte) bool // made once something is to be checked
		for _, p := range parts {
			text, ok := strings.CutPrefix(p, key.prefix)
			if !ok || text == "" {
				continue
			}
			present = true
			given, ok := decode(r.scheme.Encoding, text)
			if !ok {
				continue
			}
			if check == nil {
				check = key.checker(r.pieces(s))
			}
			matched = check(given) || matched
		}
	}
	switch {
	case matched:
		return nil
	case present || r.scheme.standard:
		return ErrSignature
	}
	return fmt.Errorf("%w: %s holds nothing that begins with %q", ErrMissing, r.scheme.Header, r.scheme.Prefix)
}

// pieces returns the signed text, in pieces.
func (r *Receiver) pieces(s signed) [][]byte {
	pieces := make([][]byte, len(r.template))
	for i, part := range r.template {
		switch part.name {
		case "":
			pieces[i] = []byte(part.literal)
		case "id":
			pieces[i] = []byte(s.id)
		case "timestamp":
			pieces[i] = []byte(s.timestamp)
		case "body":
			pieces[i] = s.body
		}
	}
	return pieces
}

// verifyToken compares a secret that came itself. Hashes are compared, so that
// the time does not tell a length either.
func (r *Receiver) verifyToken(keys []receiverKey, header string) error {
	text, ok := strings.CutPrefix(header, r.scheme.Prefix)
	if r.scheme.Algorithm == BasicAuth {
		var scheme string
		scheme, text, _ = strings.Cut(header, " ")
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		text, ok = string(raw), strings.EqualFold(scheme, "Basic") && err == nil
	}
	if !ok {
		return fmt.Errorf("%w: %s is not in the form that is due", ErrMissing, r.scheme.Header)
	}
	given, matched := sha256.Sum256([]byte(text)), 0
	for _, key := range keys {
		matched |= subtle.ConstantTimeCompare(given[:], key.secret)
	}
	if matched != 1 {
		return ErrSignature
	}
	return nil
}

// decode reads a signature. Each signature has one text only, but for the case
// of hexadecimal digits and base64's padding.
func decode(e Encoding, text string) ([]byte, bool) {
	if e == Hex {
		raw, err := hex.DecodeString(text)
		return raw, err == nil
	}
	raw, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
	return raw, err == nil
}

// Problem returns what a webhook's sender is told of an error of
// [Receiver.Verify]: signature_missing, signature_invalid, signature_retired,
// signature_stale or signature_early.
func (*Receiver) Problem(err error) *push.Problem {
	switch {
	case errors.Is(err, ErrTooNew):
		return push.NewProblem(push.CodeSignatureEarly, "the webhook claims to be signed in the future: is the sender's clock right?")
	case errors.Is(err, ErrStale):
		return push.NewProblem(push.CodeSignatureStale, "the webhook was signed too long ago: it is late, or somebody repeats an old one")
	case errors.Is(err, ErrMissing):
		return push.NewProblem(push.CodeSignatureMissing, "%v", err)
	case errors.Is(err, ErrRetired):
		return push.NewProblem(push.CodeSignatureRetired, "the webhook is signed with a secret that counts no more: give the sender the new one")
	}
	return push.NewProblem(push.CodeSignatureInvalid, "the signature matches none of the source's secrets: another secret, or the body was changed on its way")
}
