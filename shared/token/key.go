package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Limits of keys.
const (
	MinSecret  = 32   // bytes of an HMAC secret: as many as SHA-256 gives
	maxKeyID   = 256  // bytes of a kid
	minRSABits = 2048 // what RFC 7518 asks for
	maxRSABits = 8192 // beyond it, verifying becomes a way to keep us busy
)

// A Key is one key that signs tokens, for one algorithm. It prints as its id
// and algorithm, never as what is secret.
type Key struct {
	ID  string // the kid; empty: for tokens without kid
	Alg string // HS256, HS384, HS512, RS256, …, ES256, …, or EdDSA

	verify any // []byte, *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	sign   any // nil if only the public half is known
}

// String returns the key's id and algorithm.
func (k Key) String() string { return k.ID + ":" + k.Alg }

// GoString returns the same as String, so that %#v prints no secret.
func (k Key) GoString() string { return "token.Key(" + k.String() + ")" }

// Keys are what TOKEN_KEYS lists, newest first.
type Keys []Key

// UnmarshalText reads keys as [ParseKeys] does.
func (k *Keys) UnmarshalText(text []byte) (err error) {
	*k, err = ParseKeys(string(text))
	return err
}

// The algorithms, by the kind of key they take.
var (
	hmacAlgs = []string{"HS256", "HS384", "HS512"}
	rsaAlgs  = []string{"RS256", "RS384", "RS512"}
	ecCurves = map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}
	allAlgs  = []string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"}
)

// ParseKeys reads TOKEN_KEYS: entries "kid:alg:key" separated by commas, newest
// first. The kid may be empty. For HS256, HS384 and HS512 the key is a secret
// of at least [MinSecret] bytes, as it stands or as "base64:…" (a secret with a
// comma needs the latter). For the others it is a public or private key as PEM
// (in one line with \n for its line ends, or in many) or as base64 of its DER;
// with a private key tokens can also be minted. Several keys may share a kid.
//
// An empty s has no keys. The error names every wrong entry by its number, and
// nothing of what it holds.
func ParseKeys(s string) (Keys, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	var keys Keys
	var errs []error
	for i, entry := range strings.Split(s, ",") {
		k, err := parseKey(strings.TrimSpace(entry))
		if err != nil {
			errs = append(errs, fmt.Errorf("token key %d: %w", i+1, err))
			continue
		}
		keys = append(keys, k)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return keys, nil
}

func parseKey(entry string) (Key, error) {
	id, rest, ok := strings.Cut(entry, ":")
	alg, text, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 {
		return Key{}, errors.New(`want "kid:alg:key"`)
	}
	if len(id) > maxKeyID {
		return Key{}, fmt.Errorf("the kid is longer than %d bytes", maxKeyID)
	}
	if !slices.Contains(allAlgs, alg) {
		// Not named: in an entry whose parts are swapped it may be the secret.
		return Key{}, fmt.Errorf("the algorithm is none of %s", strings.Join(allAlgs, " "))
	}
	parse := parseAsymmetric
	if slices.Contains(hmacAlgs, alg) {
		parse = parseSecret
	}
	key, err := parse(text)
	if err != nil {
		return Key{}, err
	}
	return newKey(id, alg, key)
}

func parseSecret(text string) (any, error) {
	b64, ok := strings.CutPrefix(text, "base64:")
	if !ok {
		return []byte(text), nil
	}
	b, err := decodeBase64(b64)
	if err != nil {
		return nil, errors.New("the secret is not base64")
	}
	return b, nil
}

// parseAsymmetric reads a public or private key from PEM or base64 DER.
func parseAsymmetric(text string) (any, error) {
	var der []byte
	if strings.HasPrefix(text, "-----BEGIN") {
		block, _ := pem.Decode([]byte(strings.ReplaceAll(text, `\n`, "\n") + "\n"))
		if block == nil {
			return nil, errors.New("the PEM cannot be read; are its line ends there, as \\n?")
		}
		der = block.Bytes
	} else {
		var err error
		if der, err = decodeBase64(strings.TrimPrefix(text, "base64:")); err != nil {
			return nil, errors.New("the key is neither PEM nor base64")
		}
	}
	parsers := []func([]byte) (any, error){
		x509.ParsePKIXPublicKey,
		x509.ParsePKCS8PrivateKey,
		func(b []byte) (any, error) { return x509.ParsePKCS1PublicKey(b) },
		func(b []byte) (any, error) { return x509.ParsePKCS1PrivateKey(b) },
		func(b []byte) (any, error) { return x509.ParseECPrivateKey(b) },
	}
	for _, parse := range parsers {
		if key, err := parse(der); err == nil {
			return key, nil
		}
	}
	return nil, errors.New("the key is none that PKIX, PKCS #8, PKCS #1 or SEC 1 describe")
}

// decodeBase64 takes the standard and the URL alphabet, padded or not.
func decodeBase64(s string) ([]byte, error) {
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	return base64.RawStdEncoding.DecodeString(s)
}

// keysOf yields the keys among list that have this id.
func keysOf(list []Key, id string) iter.Seq[Key] {
	return func(yield func(Key) bool) {
		for _, k := range list {
			if k.ID == id && !yield(k) {
				return
			}
		}
	}
}

// newKey returns the key of id for alg. A key that does not belong to alg, or
// is too weak or too large for it, is an error.
func newKey(id, alg string, key any) (Key, error) {
	k := Key{ID: id, Alg: alg, verify: key}
	if s, ok := key.(crypto.Signer); ok {
		k.sign, k.verify = key, s.Public()
	}
	switch pub := k.verify.(type) {
	case []byte:
		if err := checkSecret(alg, pub); err != nil {
			return Key{}, err
		}
		k.sign = pub
	case *rsa.PublicKey:
		if !slices.Contains(rsaAlgs, alg) {
			return Key{}, wrongAlg("an RSA key", alg)
		}
		if bits := pub.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return Key{}, fmt.Errorf("an RSA key of %d bits; it must have %d to %d", bits, minRSABits, maxRSABits)
		}
	case *ecdsa.PublicKey:
		if ecCurves[alg] != pub.Curve {
			return Key{}, wrongAlg("a key on curve "+pub.Curve.Params().Name, alg)
		}
	case ed25519.PublicKey:
		if alg != "EdDSA" {
			return Key{}, wrongAlg("an Ed25519 key", alg)
		}
	default:
		return Key{}, errors.New("a kind of key that signs no tokens")
	}
	return k, nil
}

func checkSecret(alg string, secret []byte) error {
	switch {
	case !slices.Contains(hmacAlgs, alg):
		return wrongAlg("a secret", alg)
	case len(secret) < MinSecret:
		return fmt.Errorf("a secret of %d bytes; it must have at least %d", len(secret), MinSecret)
	case strings.Contains(string(secret), "-----BEGIN"):
		return errors.New("PEM where a secret is due: a public key is no secret")
	}
	return nil
}

func wrongAlg(what, alg string) error {
	return fmt.Errorf("%s does not go with %s", what, alg)
}
