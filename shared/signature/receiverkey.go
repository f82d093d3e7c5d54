package signature

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"hash"
	"strings"
)

const (
	publicPrefix = "whpk_"
	asymmetric   = "v1a"
	// Senders choose their own secrets, and some are shorter than the 24 bytes
	// that the specification asks for.
	minSenderSecret = 16
)

// A receiverKey is one secret of a sender, ready for use.
type receiverKey struct {
	algorithm Algorithm
	prefix    string           // what signatures by this key begin with
	secret    []byte           // of an HMAC; of a token or basic auth its SHA-256
	public    crypto.PublicKey // ed25519.PublicKey, *ecdsa.PublicKey, of a token *rsa.PublicKey too, or nil
}

// parseKey reads one secret.
func (s Scheme) parseKey(text string) (receiverKey, error) {
	if text == "" {
		return receiverKey{}, errors.New("it is empty")
	}
	key := receiverKey{algorithm: s.Algorithm, prefix: s.Prefix}
	switch {
	case s.standard:
		return parseStandardKey(text)
	case s.bodyToken:
		return parseTokenKey(text)
	case s.Algorithm == Ed25519:
		public, err := parseEd25519(text)
		key.public = public
		return key, err
	case s.Algorithm == ECDSASHA256:
		public, err := parseECDSA(text)
		key.public = public
		return key, err
	case s.Algorithm == BasicAuth && !strings.Contains(text, ":"):
		return receiverKey{}, errors.New("it is not of the form USER:PASSWORD")
	case !s.covers():
		sum := sha256.Sum256([]byte(text))
		key.secret = sum[:]
	default:
		key.secret = []byte(text)
	}
	return key, nil
}

// parseStandardKey reads a secret as Standard Webhooks writes it. Some senders
// show it with the version in front.
func parseStandardKey(text string) (receiverKey, error) {
	text = strings.TrimPrefix(strings.TrimPrefix(text, version+","), asymmetric+",")
	if strings.HasPrefix(text, publicPrefix) {
		public, err := parseEd25519(text)
		return receiverKey{algorithm: Ed25519, prefix: asymmetric + ",", public: public}, err
	}
	raw, err := decodeSecret(secretPrefix + strings.TrimPrefix(text, secretPrefix))
	if err != nil {
		return receiverKey{}, errors.New("it is neither whsec_ nor whpk_ and base64")
	}
	if len(raw) < minSenderSecret {
		return receiverKey{}, errors.New("it is shorter than 16 bytes")
	}
	return receiverKey{algorithm: HMACSHA256, prefix: version + ",", secret: raw}, nil
}

func parseEd25519(text string) (ed25519.PublicKey, error) {
	if der, ok := readDER(text); ok {
		if public, err := x509.ParsePKIXPublicKey(der); err == nil {
			if key, ok := public.(ed25519.PublicKey); ok {
				return key, nil
			}
		}
	}
	text = strings.TrimPrefix(text, publicPrefix)
	if raw, err := hex.DecodeString(text); err == nil && len(raw) == ed25519.PublicKeySize {
		return raw, nil
	}
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, errors.New("it is no Ed25519 public key: whpk_ and base64, hexadecimal or PEM")
	}
	return raw, nil
}

func parseECDSA(text string) (*ecdsa.PublicKey, error) {
	if der, ok := readDER(text); ok {
		if public, err := x509.ParsePKIXPublicKey(der); err == nil {
			if key, ok := public.(*ecdsa.PublicKey); ok && key.Curve == elliptic.P256() {
				return key, nil
			}
		}
	}
	return nil, errors.New("it is no ECDSA public key on the curve P-256: base64 or PEM (PKIX)")
}

// readDER returns the bytes of a PEM block, or of base64 on one line.
func readDER(text string) ([]byte, bool) {
	if block, _ := pem.Decode([]byte(text)); block != nil {
		return block.Bytes, true
	}
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	return raw, err == nil
}

// checker returns what says whether a signature of pieces, one behind the
// other, is by this key.
func (k receiverKey) checker(pieces [][]byte) func(given []byte) bool {
	switch public := k.public.(type) {
	case ed25519.PublicKey:
		whole := bytes.Join(pieces, nil)
		return func(given []byte) bool { return ed25519.Verify(public, whole, given) }
	case *ecdsa.PublicKey:
		h := sha256.New()
		for _, piece := range pieces {
			h.Write(piece)
		}
		sum := h.Sum(nil)
		return func(given []byte) bool { return ecdsa.VerifyASN1(public, sum, given) }
	}
	want := mac(newHash(k.algorithm), k.secret, pieces...)
	return func(given []byte) bool { return hmac.Equal(given, want) }
}

// newHash returns the hash of an HMAC algorithm.
func newHash(a Algorithm) func() hash.Hash {
	switch a {
	case HMACSHA1:
		return sha1.New
	case HMACSHA512:
		return sha512.New
	}
	return sha256.New
}
