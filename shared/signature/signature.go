// Package signature signs and verifies HTTP requests: those between our own
// services by the Standard Webhooks scheme, and webhooks by whatever scheme
// their sender has.
//
// A request of our own has three headers:
//
//	webhook-id         names the request; new for every request
//	webhook-timestamp  seconds since 1970 when it was signed
//	webhook-signature  one or more "v1,BASE64", separated by spaces
//
// where BASE64 is the HMAC-SHA256 of "ID.TIMESTAMP.BODY" over the raw bytes of
// the body. Secrets come newest first. A [Signer] signs with all of them, so
// that a secret can be replaced one process at a time: add the new one in front
// everywhere, then take the old one away everywhere.
//
// [Transport] signs what a client sends; [Require] guards a handler.
//
// A [Receiver] checks the webhooks of one sender. A [Scheme] says how that
// sender signs: one of [Presets], or one that a user describes.
package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The headers of the scheme.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

// The names under which an http.Header has them: to look one up by another
// spelling costs a string each time.
const (
	keyID        = "Webhook-Id"
	keyTimestamp = "Webhook-Timestamp"
	keySignature = "Webhook-Signature"
)

// Why a request is refused.
var (
	ErrMissing   = errors.New("a signature header is missing or malformed")
	ErrSignature = errors.New("no signature matches")
	ErrStale     = errors.New("signed outside the time window")
	// ErrRetired is a signature that was good until its secret was taken away.
	ErrRetired = fmt.Errorf("%w: but a retired secret does", ErrSignature)
	// What is stale is one of these two.
	ErrTooOld = fmt.Errorf("%w: too long ago", ErrStale)
	ErrTooNew = fmt.Errorf("%w: in the future", ErrStale)
)

// DefaultTolerance is how far a timestamp may lie from now, either way.
const DefaultTolerance = 5 * time.Minute

const (
	version       = "v1"
	secretPrefix  = "whsec_"
	minSecret     = 24   // bytes, decoded
	maxID         = 256  // bytes
	maxSignatures = 16   // looked at in one request
	maxHeader     = 2048 // bytes of webhook-signature
)

// Keys are the secrets of one scheme of trust, newest first.
type Keys struct {
	keys []key
}

// A key is one secret, and hashes that were made with it: to make one costs as much
// as to hash a request.
type key struct {
	secret []byte
	hashes *sync.Pool // of hash.Hash
}

func newKey(secret []byte) key {
	return key{secret, &sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }}}
}

// ParseKeys reads secrets, newest first: "whsec_" and base64, or any other text
// as it stands; at least 24 bytes either way. There must be one or more. Errors
// tell a secret's place, never the secret.
func ParseKeys(secrets []string) (Keys, error) {
	if len(secrets) == 0 {
		return Keys{}, errors.New("there is no signing secret")
	}
	var k Keys
	for i, s := range secrets {
		raw, err := decodeSecret(s)
		if err != nil {
			return Keys{}, fmt.Errorf("signing secret %d: %w", i+1, err)
		}
		if len(raw) < minSecret {
			return Keys{}, fmt.Errorf("signing secret %d is %d bytes long, less than %d", i+1, len(raw), minSecret)
		}
		k.keys = append(k.keys, newKey(raw))
	}
	return k, nil
}

// decodeSecret returns the bytes that a secret of the scheme stands for.
func decodeSecret(s string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(s, secretPrefix)
	if !ok {
		return []byte(s), nil
	}
	// Some tools print the padding, some leave it out.
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if err != nil {
		return nil, errors.New("what follows whsec_ is not base64")
	}
	return raw, nil
}

// String tells how many keys there are, never what they are.
func (k Keys) String() string { return fmt.Sprintf("[%d keys]", len(k.keys)) }

// GoString is String.
func (k Keys) GoString() string { return k.String() }

// sum returns the base64 signature of one request by one key.
func (k key) sum(id, timestamp string, body []byte) []byte {
	h := k.hashes.Get().(hash.Hash)
	defer k.hashes.Put(h)
	h.Reset()
	b := make([]byte, 0, len(id)+len(timestamp)+2+sha256.Size)
	b = append(append(append(append(b, id...), '.'), timestamp...), '.')
	h.Write(b)
	h.Write(body)
	raw := h.Sum(b[len(b):])
	return base64.StdEncoding.AppendEncode(make([]byte, 0, base64.StdEncoding.EncodedLen(len(raw))), raw)
}

// mac returns the HMAC of parts, one behind the other.
func mac(newHash func() hash.Hash, key []byte, parts ...[]byte) []byte {
	h := hmac.New(newHash, key)
	for _, part := range parts {
		h.Write(part)
	}
	return h.Sum(nil)
}

// A Signer signs requests.
type Signer struct {
	keys Keys
}

// NewSigner returns a signer that signs with every one of keys.
func NewSigner(keys Keys) *Signer { return &Signer{keys: keys} }

// Sign sets the three headers in h for a request with this id and body, signed
// at now. The id is 1 to 256 visible ASCII characters without '.', which would
// make it ambiguous what was signed.
func (s *Signer) Sign(h http.Header, id string, now time.Time, body []byte) error {
	if !validID(id) {
		return fmt.Errorf("sign: %q cannot be the id of a request", id)
	}
	timestamp := strconv.FormatInt(now.Unix(), 10)
	signatures := make([]string, len(s.keys.keys))
	for i, key := range s.keys.keys {
		signatures[i] = version + "," + string(key.sum(id, timestamp, body))
	}
	h.Set(keyID, id)
	h.Set(keyTimestamp, timestamp)
	h.Set(keySignature, strings.Join(signatures, " "))
	return nil
}

// A Stamp is what the signature of a request vouches for, besides its body.
type Stamp struct {
	ID string
	At time.Time
}

// VerifierConfig tunes a [Verifier].
type VerifierConfig struct {
	Tolerance time.Duration    // how far a timestamp may lie from now, either way; 0 means 5 minutes
	Now       func() time.Time // nil means time.Now; used by [Require]
}

// A Verifier checks signatures. It may be used by several goroutines.
type Verifier struct {
	cfg  VerifierConfig
	keys Keys
}

// NewVerifier returns a verifier that takes a signature by any of keys.
func NewVerifier(cfg VerifierConfig, keys Keys) *Verifier {
	if cfg.Tolerance == 0 {
		cfg.Tolerance = DefaultTolerance
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Verifier{cfg: cfg, keys: keys}
}

// Verify checks the signature of a request that arrived at now with these
// headers and the raw bytes of its body. Its error wraps [ErrMissing],
// [ErrSignature] or, only where the signature is right, [ErrStale]. The time it
// takes does not tell how much of a signature was right.
func (v *Verifier) Verify(h http.Header, body []byte, now time.Time) (Stamp, error) {
	id, timestamp, signatures := h.Get(keyID), h.Get(keyTimestamp), h.Get(keySignature)
	if len(h[keyID]) > 1 || len(h[keyTimestamp]) > 1 {
		return Stamp{}, fmt.Errorf("%w: it occurs twice", ErrMissing)
	}
	at, ok := parseTimestamp(timestamp)
	switch {
	case !validID(id):
		return Stamp{}, fmt.Errorf("%w: %s", ErrMissing, HeaderID)
	case !ok:
		return Stamp{}, fmt.Errorf("%w: %s", ErrMissing, HeaderTimestamp)
	case signatures == "" || len(signatures) > maxHeader:
		return Stamp{}, fmt.Errorf("%w: %s", ErrMissing, HeaderSignature)
	}
	if !v.matches(id, timestamp, signatures, body) {
		return Stamp{}, ErrSignature
	}
	if err := checkAge(at, now, v.cfg.Tolerance); err != nil {
		return Stamp{}, err
	}
	return Stamp{ID: id, At: at}, nil
}

// checkAge returns nil if at lies within tolerance of now, either way.
func checkAge(at, now time.Time, tolerance time.Duration) error {
	switch age := now.Sub(at); {
	case age > tolerance:
		return ErrTooOld
	case age < -tolerance:
		return ErrTooNew
	}
	return nil
}

func (v *Verifier) matches(id, timestamp, signatures string, body []byte) bool {
	matched := false
	for _, key := range v.keys.keys {
		want := key.sum(id, timestamp, body)
		count := 0
		for given := range strings.SplitSeq(signatures, " ") {
			if signature, ok := strings.CutPrefix(given, version+","); ok && hmac.Equal([]byte(signature), want) {
				matched = true
			}
			if count++; count == maxSignatures {
				break
			}
		}
	}
	return matched
}

// parseTimestamp takes seconds in the one form that Sign writes: what is signed
// is the text, so there must be only one for each time.
func parseTimestamp(s string) (time.Time, bool) {
	seconds, err := strconv.ParseInt(s, 10, 64)
	if err != nil || seconds < 0 || seconds > 1<<40 || strconv.FormatInt(seconds, 10) != s {
		return time.Time{}, false
	}
	return time.Unix(seconds, 0), true
}

func validID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for _, c := range []byte(id) {
		if c <= ' ' || c > '~' || c == '.' {
			return false
		}
	}
	return true
}
