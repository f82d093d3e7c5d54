package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// What the tests share: one moment, and one key pair of each kind.

var moment = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func atMoment() time.Time { return moment }

const secret = "0123456789abcdef0123456789abcdef"

var pairs = sync.OnceValue(func() map[string]crypto.Signer {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	all := map[string]crypto.Signer{"RS256": rsaKey, "RS384": rsaKey, "RS512": rsaKey, "EdDSA": edKey}
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		if all[alg], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			panic(err)
		}
	}
	return all
})

func publicPEM(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func privateDER(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func oneLine(pemText string) string {
	return strings.ReplaceAll(strings.TrimSpace(pemText), "\n", `\n`)
}

func keys(t testing.TB, s string) Keys {
	t.Helper()
	list, err := ParseKeys(s)
	if err != nil {
		t.Fatalf("ParseKeys: %v", err)
	}
	return list
}

func verifier(t testing.TB, cfg Config) *Verifier {
	t.Helper()
	v, err := NewVerifier(cfg, http.DefaultClient, atMoment, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatalf("NewVerifier: %v", err)
	}
	return v
}

// signed returns a token with exactly this header (but for alg and typ) and
// these claims, whatever they are.
func signed(t testing.TB, alg string, key any, header map[string]any, claims string) string {
	t.Helper()
	tok := jwt.NewWithClaims(jwt.GetSigningMethod(alg), &payload{raw: json.RawMessage(claims)})
	for name, value := range header {
		tok.Header[name] = value
	}
	text, err := tok.SignedString(key)
	if err != nil {
		t.Fatalf("sign %s: %v", claims, err)
	}
	return text
}

// unsigned returns a token of these two parts and signature, as they are.
func unsigned(header, claims string, signature []byte) string {
	enc := base64.RawURLEncoding
	return enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString([]byte(claims)) + "." + enc.EncodeToString(signature)
}
