package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// FusionAuth does not sign the body but a JSON Web Token that holds the body's
// SHA-256. The key decides which algorithms count, never the token: a public key
// is not taken for an HMAC's secret.

// hashClaim is the claim that holds the SHA-256 of the body, in base64.
const hashClaim = "request_body_sha256"

// maxTime bounds the times of a token: the year 9999, in seconds.
const maxTime = 253402300799

// minRSA is the smallest RSA key that is taken, in bits.
const minRSA = 2048

// parseTokenKey reads a secret of a scheme whose signature is a token: the PEM
// of an RSA or ECDSA public key, else any text as an HMAC's secret.
func parseTokenKey(text string) (receiverKey, error) {
	if !strings.Contains(text, "-----BEGIN") {
		if len(text) < minSenderSecret {
			return receiverKey{}, errors.New("it is shorter than 16 bytes, and no PEM of a public key")
		}
		return receiverKey{algorithm: HMACSHA256, secret: []byte(text)}, nil
	}
	der, _ := readDER(text)
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return receiverKey{}, errors.New("it is no PEM of a public key: -----BEGIN PUBLIC KEY-----")
	}
	switch key := public.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSA {
			return receiverKey{}, fmt.Errorf("it is an RSA key of %d bits, fewer than %d", key.N.BitLen(), minRSA)
		}
		return receiverKey{public: key}, nil
	case *ecdsa.PublicKey:
		return receiverKey{public: key}, nil
	}
	return receiverKey{}, errors.New("it is neither an RSA nor an ECDSA public key")
}

// A bodyToken is a token that vouches for a body, cut into its parts.
type bodyToken struct {
	signed    string // what the signature is of
	algorithm string
	signature []byte
	claims    struct {
		Hash      string      `json:"request_body_sha256"`
		IssuedAt  json.Number `json:"iat"`
		NotBefore json.Number `json:"nbf"`
		Expires   json.Number `json:"exp"`
	}
}

// parseBodyToken reads a token in its compact form. It proves nothing yet.
func parseBodyToken(text string) (bodyToken, bool) {
	var t bodyToken
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return t, false
	}
	head, err1 := base64.RawURLEncoding.Strict().DecodeString(parts[0])
	claims, err2 := base64.RawURLEncoding.Strict().DecodeString(parts[1])
	signature, err3 := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if errors.Join(err1, err2, err3) != nil {
		return t, false
	}
	var header struct {
		Algorithm string   `json:"alg"`
		Critical  []string `json:"crit"`
	}
	if json.Unmarshal(head, &header) != nil || len(header.Critical) > 0 {
		return t, false // crit names what must be understood
	}
	if json.Unmarshal(claims, &t.claims) != nil {
		return t, false
	}
	t.signed, t.algorithm, t.signature = parts[0]+"."+parts[1], header.Algorithm, signature
	return t, true
}

// verifyBodyToken checks the token in header for body at now; see [Receiver.Verify].
func (r *Receiver) verifyBodyToken(keys []receiverKey, header string, body []byte, now time.Time) (time.Time, error) {
	t, ok := parseBodyToken(header)
	if !ok {
		return time.Time{}, fmt.Errorf("%w: %s is no JSON Web Token", ErrMissing, r.scheme.Header)
	}
	matched := false
	for _, key := range keys {
		matched = t.by(key) || matched
	}
	if !matched {
		return time.Time{}, ErrSignature
	}
	sum := sha256.Sum256(body)
	given, ok := decode(Base64, t.claims.Hash)
	if !ok || subtle.ConstantTimeCompare(given, sum[:]) != 1 {
		return time.Time{}, fmt.Errorf("%w: %s is of another body", ErrSignature, hashClaim)
	}
	return time.Time{}, t.age(now, r.scheme.Tolerance)
}

// age returns why the token does not count at now. Whatever time it does not
// name sets no limit.
func (t *bodyToken) age(now time.Time, tolerance time.Duration) error {
	issued, ok1 := claimTime(t.claims.IssuedAt)
	from, ok2 := claimTime(t.claims.NotBefore)
	until, ok3 := claimTime(t.claims.Expires)
	switch {
	case !ok1 || !ok2 || !ok3:
		return fmt.Errorf("%w: a time of the token is none", ErrMissing)
	case !until.IsZero() && now.After(until.Add(tolerance)):
		return ErrTooOld
	case issued.After(now.Add(tolerance)), from.After(now.Add(tolerance)):
		return ErrTooNew
	}
	return nil
}

// claimTime reads a time in seconds since 1970, the zero time where there is none.
func claimTime(n json.Number) (time.Time, bool) {
	if n == "" {
		return time.Time{}, true
	}
	seconds, err := n.Float64() // RFC 7519 allows a fraction
	if err != nil || !(seconds >= 0 && seconds <= maxTime) {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}

// by reports whether key has signed t.
func (t *bodyToken) by(key receiverKey) bool {
	if len(t.algorithm) != len("HS256") {
		return false
	}
	var hash crypto.Hash
	switch t.algorithm[2:] {
	case "256":
		hash = crypto.SHA256
	case "384":
		hash = crypto.SHA384
	case "512":
		hash = crypto.SHA512
	default:
		return false
	}
	switch public := key.public.(type) {
	case *rsa.PublicKey:
		return t.algorithm[:2] == "RS" && rsa.VerifyPKCS1v15(public, hash, digest(hash, t.signed), t.signature) == nil
	case *ecdsa.PublicKey:
		curves := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}
		size := (public.Curve.Params().BitSize + 7) / 8
		if curves[t.algorithm] != public.Curve || len(t.signature) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(t.signature[:size]), new(big.Int).SetBytes(t.signature[size:])
		return ecdsa.Verify(public, digest(hash, t.signed), r, s)
	}
	if t.algorithm[:2] != "HS" {
		return false
	}
	return hmac.Equal(t.signature, mac(hash.New, key.secret, []byte(t.signed)))
}

func digest(hash crypto.Hash, text string) []byte {
	switch hash {
	case crypto.SHA384:
		sum := sha512.Sum384([]byte(text))
		return sum[:]
	case crypto.SHA512:
		sum := sha512.Sum512([]byte(text))
		return sum[:]
	}
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}
