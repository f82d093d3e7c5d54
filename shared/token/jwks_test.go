package token

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
)

// An issuer serves a JWKS whose contents and health a test changes.
type issuer struct {
	url string

	mu    sync.Mutex
	body  string
	code  int
	asked int
	hold  chan struct{} // if not nil, answers wait until it is closed
	came  chan struct{} // receives once a request is there
}

func newIssuer(t *testing.T) *issuer {
	is := &issuer{code: http.StatusOK, came: make(chan struct{}, 100)}
	srv := httptest.NewServer(is)
	t.Cleanup(srv.Close)
	is.url = srv.URL
	return is
}

func (is *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	is.mu.Lock()
	is.asked++
	body, code, hold := is.body, is.code, is.hold
	is.mu.Unlock()
	is.came <- struct{}{}
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
			return
		}
	}
	w.WriteHeader(code)
	fmt.Fprint(w, body)
}

func (is *issuer) set(body string, code int) {
	is.mu.Lock()
	defer is.mu.Unlock()
	is.body, is.code = body, code
}

func (is *issuer) requests() int {
	is.mu.Lock()
	defer is.mu.Unlock()
	return is.asked
}

// jwk returns key's public half as a JSON Web Key, with these members set over.
func jwk(t testing.TB, kid string, key crypto.Signer, over map[string]any) string {
	t.Helper()
	k, err := jwkset.NewJWKFromKey(key.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: kid}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(k.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for name, value := range over {
		m[name] = value
	}
	if b, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func set(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

// A clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A patient transport sends requests without their deadlines: an issuer is not away
// because this machine is slow.
type patient struct{ *http.Transport }

// RoundTrip sends r (http.RoundTripper).
func (p patient) RoundTrip(r *http.Request) (*http.Response, error) {
	return p.Transport.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
}

func jwksVerifier(t *testing.T, is *issuer) (*Verifier, *clock) {
	t.Helper()
	c := &clock{now: moment}
	client := &http.Client{Transport: patient{&http.Transport{}}}
	t.Cleanup(client.CloseIdleConnections)
	v, err := NewVerifier(Config{JWKSURL: is.url, Keys: keys(t, "own:HS256:"+secret)}, client, c.Now, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return v, c
}

func token(t *testing.T, alg, kid string) string {
	return signed(t, alg, pairs()[alg], map[string]any{"kid": kid}, `{"sub":"42"}`)
}

func wantVerify(t *testing.T, v *Verifier, text string, want error) {
	t.Helper()
	_, err := v.Verify(t.Context(), text)
	if !errors.Is(err, want) {
		t.Helper()
		t.Errorf("Verify = %v, want %v", err, want)
	}
}

func TestJWKSRotates(t *testing.T) {
	is := newIssuer(t)
	v, c := jwksVerifier(t, is)
	is.set(set(jwk(t, "a", pairs()["RS256"], nil)), 200)
	wantVerify(t, v, token(t, "RS256", "a"), nil)
	wantVerify(t, v, token(t, "RS256", "a"), nil)
	if got := is.requests(); got != 1 {
		t.Errorf("the JWKS was asked %d times for a known kid, want 1", got)
	}

	is.set(set(jwk(t, "a", pairs()["RS256"], nil), jwk(t, "b", pairs()["ES256"], nil)), 200)
	wantVerify(t, v, token(t, "ES256", "b"), nil) // a new kid is asked for at once

	is.set(set(jwk(t, "b", pairs()["ES256"], nil)), 200)
	wantVerify(t, v, token(t, "RS256", "a"), nil) // still fresh
	c.advance(jwksFresh + time.Second)
	wantVerify(t, v, token(t, "RS256", "a"), ErrInvalid) // withdrawn

	is.set(set(), 200)
	c.advance(jwksFresh + time.Second)
	wantVerify(t, v, token(t, "ES256", "b"), ErrInvalid) // all withdrawn
}

func TestJWKSAway(t *testing.T) {
	is := newIssuer(t)
	v, c := jwksVerifier(t, is)
	is.set("", 500)
	if err := v.Ready(t.Context()); err == nil {
		t.Error("Ready = nil though the JWKS was never fetched")
	}
	wantVerify(t, v, token(t, "RS256", "a"), ErrUnavailable)
	wantVerify(t, v, signed(t, "HS256", []byte(secret), map[string]any{"kid": "own"}, `{"sub":"42"}`), nil)

	c.advance(time.Minute)
	is.set(set(jwk(t, "a", pairs()["RS256"], nil)), 200)
	if err := v.Ready(t.Context()); err != nil {
		t.Errorf("Ready = %v though the JWKS is back", err)
	}
	wantVerify(t, v, token(t, "RS256", "a"), nil)

	is.set("gone", 404)
	c.advance(jwksFresh + time.Second)
	wantVerify(t, v, token(t, "RS256", "a"), nil) // what it last said counts on
	wantVerify(t, v, token(t, "ES256", "b"), ErrUnavailable)
	c.advance(jwksKeep)
	wantVerify(t, v, token(t, "RS256", "a"), ErrUnavailable) // but not for ever
}

func TestJWKSBadAnswers(t *testing.T) {
	many := strings.Repeat("{},", jwksMaxKeys)
	tests := map[string]string{
		"not JSON":  "<html>",
		"null":      "null",
		"array":     "[]",
		"no keys":   "{}",
		"too large": set() + strings.Repeat(" ", jwksMaxBytes),
		"too many":  `{"keys":[` + many + `{}]}`,
		"cut short": `{"keys":[`,
	}
	for name, body := range tests {
		t.Run(name, func(t *testing.T) {
			is := newIssuer(t)
			v, _ := jwksVerifier(t, is)
			is.set(body, 200)
			wantVerify(t, v, token(t, "RS256", "a"), ErrUnavailable)
		})
	}
}

func TestJWKSTakesOnlyVerifyingKeys(t *testing.T) {
	rs, es, ed := pairs()["RS256"], pairs()["ES256"], pairs()["EdDSA"]
	is := newIssuer(t)
	v, _ := jwksVerifier(t, is)
	is.set(set(
		`{"kty":"oct","kid":"oct","alg":"HS256","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}`,
		`{"kty":"unheard of","kid":"odd"}`,
		`7`,
		jwk(t, "enc", rs, map[string]any{"use": "enc"}),
		jwk(t, "ops", rs, map[string]any{"key_ops": []string{"encrypt"}}),
		jwk(t, "hs", rs, map[string]any{"alg": "HS256"}),
		jwk(t, "rs", rs, map[string]any{"use": "sig", "key_ops": []string{"verify"}}),
		jwk(t, "rs512", rs, map[string]any{"alg": "RS512"}),
		jwk(t, "es", es, nil),
		jwk(t, "ed", ed, nil),
		jwk(t, "", ed, nil),
	), 200)
	tests := map[string]struct {
		text string
		want error
	}{
		"symmetric":               {signed(t, "HS256", []byte(secret), map[string]any{"kid": "oct"}, `{"sub":"42"}`), ErrInvalid},
		"for encryption":          {token(t, "RS256", "enc"), ErrInvalid},
		"other operations":        {token(t, "RS256", "ops"), ErrInvalid},
		"RSA marked HS256":        {token(t, "RS256", "hs"), ErrInvalid},
		"HMAC with RSA key":       {signed(t, "HS256", []byte(publicPEM(t, rs)), map[string]any{"kid": "rs"}, `{"sub":"42"}`), ErrInvalid},
		"unmarked RSA":            {token(t, "RS384", "rs"), nil},
		"marked RSA":              {token(t, "RS512", "rs512"), nil},
		"marked RSA, other hash":  {token(t, "RS256", "rs512"), ErrInvalid},
		"EC":                      {token(t, "ES256", "es"), nil},
		"EC, key of another":      {token(t, "ES384", "es"), ErrInvalid},
		"Ed25519":                 {token(t, "EdDSA", "ed"), nil},
		"no kid":                  {signed(t, "EdDSA", ed, nil, `{"sub":"42"}`), nil},
		"no kid, key with kid":    {signed(t, "ES256", es, nil, `{"sub":"42"}`), ErrInvalid},
		"kid of our own, foreign": {token(t, "RS256", "own"), ErrInvalid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { wantVerify(t, v, tt.text, tt.want) })
	}
}

func TestJWKSIsAskedAtABoundedRate(t *testing.T) {
	is := newIssuer(t)
	v, c := jwksVerifier(t, is)
	is.set(set(jwk(t, "a", pairs()["RS256"], nil)), 200)
	var last error
	for i := range 50 {
		_, last = v.Verify(t.Context(), token(t, "ES256", fmt.Sprint("unknown", i)))
	}
	if got := is.requests(); got != jwksBurst {
		t.Errorf("the JWKS was asked %d times for 50 unknown kids, want %d", got, jwksBurst)
	}
	if !errors.Is(last, ErrUnavailable) {
		t.Errorf("a kid that nobody was asked about gets %v, want ErrUnavailable", last)
	}
	wantVerify(t, v, token(t, "RS256", "a"), nil) // known ones do not suffer
	c.advance(jwksPause)
	wantVerify(t, v, token(t, "ES256", "b"), ErrInvalid)
}

func TestJWKSOneFetchForAll(t *testing.T) {
	is := newIssuer(t)
	v, _ := jwksVerifier(t, is)
	is.set(set(jwk(t, "a", pairs()["RS256"], nil)), 200)
	is.mu.Lock()
	is.hold = make(chan struct{})
	is.mu.Unlock()

	text := token(t, "RS256", "a")
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 10)
	go func() { _, err := v.Verify(ctx, text); errs <- err }()
	<-is.came // the first asks, and is then cancelled
	for range 8 {
		go func() { _, err := v.Verify(t.Context(), text); errs <- err }()
	}
	impatient, stop := context.WithCancel(t.Context())
	stop()
	wantVerifyCtx(t, impatient, v, text, ErrUnavailable)
	cancel()
	close(is.hold)
	for range 9 {
		if err := <-errs; err != nil {
			t.Errorf("Verify = %v, though only another caller's context ended", err)
		}
	}
	if got := is.requests(); got != 1 {
		t.Errorf("the JWKS was asked %d times, want 1", got)
	}
}

func wantVerifyCtx(t *testing.T, ctx context.Context, v *Verifier, text string, want error) {
	t.Helper()
	if _, err := v.Verify(ctx, text); !errors.Is(err, want) {
		t.Errorf("Verify = %v, want %v", err, want)
	}
}

func TestNewVerifierRefusesJWKSURL(t *testing.T) {
	for _, address := range []string{"file:///etc/keys", "no url", "http://", "\x00"} {
		if _, err := NewVerifier(Config{JWKSURL: address}, http.DefaultClient, atMoment, nil, nil); err == nil {
			t.Errorf("NewVerifier with JWKS at %q = nil, want an error", address)
		}
	}
}

func FuzzParseJWKS(f *testing.F) {
	f.Add([]byte(set(jwk(f, "a", pairs()["ES256"], nil), jwk(f, "b", pairs()["EdDSA"], nil))))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		list, err := parseJWKS(body)
		if err != nil && list != nil {
			t.Fatalf("parseJWKS(%q) = %v and %v", body, list, err)
		}
		for _, k := range list {
			if k.sign != nil {
				t.Errorf("parseJWKS(%q): key %s can sign", body, k)
			}
		}
	})
}

// While the issuer is away, what it last said judges tokens at once, but for one
// now and then that goes to look whether it is back.
func TestJWKSAwayJudgesNow(t *testing.T) {
	is := newIssuer(t)
	v, c := jwksVerifier(t, is)
	is.set(set(jwk(t, "a", pairs()["RS256"], nil)), 200)
	wantVerify(t, v, token(t, "RS256", "a"), nil)
	is.set("gone", 503)
	c.advance(jwksFresh + time.Second)
	for round := range 2 {
		for n := range 20 {
			_, err := v.VerifyNow(token(t, "RS256", "a"))
			if want := n == 0; errors.Is(err, ErrNotNow) != want {
				t.Errorf("round %d, token %d: %v", round, n, err)
			}
		}
		c.advance(jwksPause)
	}
	if _, err := v.VerifyNow(token(t, "ES256", "b")); !errors.Is(err, ErrNotNow) {
		t.Errorf("a kid that is not known is judged: %v", err)
	}
}
