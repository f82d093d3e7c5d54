package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func segment(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// tokenOf signs claims with HS256.
func tokenOf(secret, claims string) string {
	text := segment([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + segment([]byte(claims))
	return text + "." + segment(hmacByHand(sha256.New, secret, text))
}

func pemOf(t testing.TB, public any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// TestBodyToken: who signed, of what body, and when.
func TestBodyToken(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	body := `{"event":{"id":"1","type":"user.create"}}`
	sum := sha256.Sum256([]byte(body))
	hash := base64.StdEncoding.EncodeToString(sum[:])
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaPEM, ecPEM := pemOf(t, &rsaKey.PublicKey), pemOf(t, &ecKey.PublicKey)
	const shared = "fusionauth signing secret"
	claims := func(more string) string { return fmt.Sprintf(`{"request_body_sha256":%q%s}`, hash, more) }
	byRSA := func(head string) string {
		text := segment([]byte(head)) + "." + segment([]byte(claims("")))
		digest := sha256.Sum256([]byte(text))
		signature, err := rsa.SignPKCS1v15(rand.Reader, rsaKey, crypto.SHA256, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return text + "." + segment(signature)
	}
	byEC := func(head string) string {
		text := segment([]byte(head)) + "." + segment([]byte(claims("")))
		r, s, err := ecdsa.Sign(rand.Reader, ecKey, digest(crypto.SHA384, text))
		if err != nil {
			t.Fatal(err)
		}
		raw := make([]byte, 96)
		r.FillBytes(raw[:48])
		s.FillBytes(raw[48:])
		return text + "." + segment(raw)
	}
	seconds := func(d time.Duration) int64 { return now.Add(d).Unix() }
	tests := map[string]struct {
		secret, token string
		want          error
	}{
		"HS256":                       {shared, tokenOf(shared, claims("")), nil},
		"RS256":                       {rsaPEM, byRSA(`{"alg":"RS256","kid":"k"}`), nil},
		"ES384":                       {ecPEM, byEC(`{"alg":"ES384"}`), nil},
		"the wrong name of the curve": {ecPEM, byEC(`{"alg":"ES256"}`), ErrSignature},
		"RS256 for ES384":             {ecPEM, byRSA(`{"alg":"RS256"}`), ErrSignature},
		"an HMAC by the public key":   {rsaPEM, tokenOf(rsaPEM, claims("")), ErrSignature},
		"no algorithm":                {shared, segment([]byte(`{"alg":"none"}`)) + "." + segment([]byte(claims(""))) + ".", ErrSignature},
		"an extension that counts":    {shared, segment([]byte(`{"alg":"HS256","crit":["b64"]}`)) + "." + segment([]byte(claims(""))) + ".", ErrMissing},
		"another hash":                {shared, tokenOf(shared, `{"request_body_sha256":"AAAA"}`), ErrSignature},
		"no hash":                     {shared, tokenOf(shared, `{}`), ErrSignature},
		"two parts":                   {shared, "a.b", ErrMissing},
		"no base64":                   {shared, "!.!.!", ErrMissing},
		"in time":                     {shared, tokenOf(shared, claims(fmt.Sprintf(`,"iat":%d,"nbf":%d,"exp":%d.5`, seconds(0), seconds(0), seconds(time.Minute)))), nil},
		"expired within tolerance":    {shared, tokenOf(shared, claims(fmt.Sprintf(`,"exp":%d`, seconds(-5*time.Minute)))), nil},
		"expired":                     {shared, tokenOf(shared, claims(fmt.Sprintf(`,"exp":%d`, seconds(-301*time.Second)))), ErrTooOld},
		"issued in the future":        {shared, tokenOf(shared, claims(fmt.Sprintf(`,"iat":%d`, seconds(301*time.Second)))), ErrTooNew},
		"not yet":                     {shared, tokenOf(shared, claims(fmt.Sprintf(`,"nbf":%d`, seconds(301*time.Second)))), ErrTooNew},
		"a time that is none":         {shared, tokenOf(shared, claims(`,"exp":-1`)), ErrMissing},
		"a time beyond all":           {shared, tokenOf(shared, claims(`,"exp":1e300`)), ErrMissing},
	}
	scheme, _ := Preset("fusionauth")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := NewReceiver(scheme, []string{tt.secret})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Verify(http.Header{"X-Fusionauth-Signature-Jwt": {tt.token}}, []byte(body), now); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("Verify(%s) = %v, want %v", tt.token, err, tt.want)
			}
		})
	}
	small, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: rsaKey.N.Rsh(rsaKey.N, 1100), E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string]string{
		"short":       "fifteen letters",
		"not PEM":     "-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----\n",
		"a small RSA": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: small})),
	} {
		if _, err := NewReceiver(scheme, []string{secret}); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: NewReceiver = %v, want an error that does not tell the secret", name, err)
		}
	}
}

// TestRetired: who signs with a secret that was taken away is told so, and
// nothing else changes.
func TestRetired(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	for name, s := range senders(t) {
		t.Run(name, func(t *testing.T) {
			scheme, _ := Preset(name)
			r, err := NewReceiver(scheme, []string{s.secret}, s.other)
			if err != nil {
				t.Fatal(err)
			}
			tests := map[string]struct {
				secret string
				at     time.Time
				want   error
			}{
				"today's":          {s.secret, now, nil},
				"retired":          {s.other, now, ErrRetired},
				"retired, and old": {s.other, now.Add(-time.Hour), ErrRetired},
			}
			for what, tt := range tests {
				if _, err := r.Verify(s.sign(tt.secret, tt.at, s.body), []byte(s.body), now); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
					t.Errorf("%s: Verify = %v, want %v", what, err, tt.want)
				}
			}
			if !scheme.Proves().Body {
				return
			}
			if _, err := r.Verify(s.sign(s.secret, now, s.body), []byte(flip(s.body)), now); !errors.Is(err, ErrSignature) || errors.Is(err, ErrRetired) {
				t.Errorf("altered: Verify = %v, want ErrSignature and not ErrRetired", err)
			}
		})
	}
}

// FuzzBodyToken reads what strangers send in place of a token. None of it is
// signed, so none may pass.
func FuzzBodyToken(f *testing.F) {
	f.Add(tokenOf("another secret entirely", `{"request_body_sha256":"AAAA","exp":1}`), "body")
	f.Add("..", "")
	f.Add("e30.e30.e30", "{}")
	f.Add(segment([]byte(`{"alg":"none"}`))+".e30.", "{}")
	scheme, _ := Preset("fusionauth")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	r, err := NewReceiver(scheme, []string{"fusionauth signing secret", pemOf(f, &key.PublicKey)})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, token, body string) {
		if _, err := r.Verify(http.Header{"X-Fusionauth-Signature-Jwt": {token}}, []byte(body), time.Unix(1_790_000_000, 0)); err == nil {
			t.Errorf("Verify(%q) of %q passes", token, body)
		}
	})
}
