package authfn

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushcluster/shared/push"
	"pushcluster/shared/secret"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
	"pushcluster/shared/token"
)

const (
	tokenSecret   = "0123456789abcdef0123456789abcdef"
	signingSecret = "signing-secret-of-at-least-24"
)

// An auth is Auth on a real port, with its parts at hand.
type auth struct {
	url    string
	signed *http.Client // signs, as our own services do
	minter *token.Minter
	now    time.Time
	reg    *prometheus.Registry
}

func newAuth(t *testing.T, cfg token.Config) *auth {
	t.Helper()
	return newAuthWith(t, cfg, nil)
}

func newAuthWith(t *testing.T, cfg token.Config, revocations Revocations) *auth {
	t.Helper()
	now := time.Now().Truncate(time.Second)
	clock := func() time.Time { return now }
	log := slog.New(slog.DiscardHandler)
	client := &http.Client{}
	t.Cleanup(client.CloseIdleConnections)
	verifier, err := token.NewVerifier(cfg, client, clock, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	minter, _ := token.NewMinter(cfg, clock)
	signing, err := signature.ParseKeys([]string{signingSecret})
	if err != nil {
		t.Fatal(err)
	}
	apiKeys, err := secret.ParseKeys("shop:key-of-the-shop,shop:its-next-key")
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	h, err := New(Config{
		Callers: signature.NewVerifier(signature.VerifierConfig{}, signing),
		APIKeys: apiKeys, Revocations: revocations,
	}, verifier, minter, log, reg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(serve.Wrap("public", h, log, nil))
	t.Cleanup(srv.Close)
	signer := &signature.Transport{Signer: signature.NewSigner(signing), Base: client.Transport}
	return &auth{url: srv.URL, signed: &http.Client{Transport: signer}, minter: minter, now: now, reg: reg}
}

func parseKeys(t *testing.T, text string) token.Keys {
	t.Helper()
	k, err := token.ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func hmacAuth(t *testing.T) *auth {
	return newAuth(t, token.Config{Keys: parseKeys(t, ":HS256:"+tokenSecret), Issuer: "us"})
}

// post sends body and returns the answer with its body.
func post(t *testing.T, c *http.Client, url, body string, header http.Header) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp, b.String()
}

// wantProblem checks the status and the problem's code, and that the detail
// holds want.
func wantProblem(t *testing.T, resp *http.Response, body string, status int, code push.Code, want string) {
	t.Helper()
	var p push.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("%d with %q, which is no problem: %v", resp.StatusCode, body, err)
	}
	if resp.StatusCode != status || p.Code != code || !strings.Contains(p.Detail, want) {
		t.Errorf("answer %d %s %q, want %d %s with %q", resp.StatusCode, p.Code, p.Detail, status, code, want)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q of a problem", got)
	}
}

func (a *auth) mintText(t *testing.T, g token.Grant) string {
	t.Helper()
	text, _, err := a.minter.Mint(g)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestVerify(t *testing.T) {
	a := hmacAuth(t)
	text := a.mintText(t, token.Grant{User: "42", TTL: time.Minute, Channels: []push.Channel{"news"},
		Topics: []string{"room:*"}, Info: json.RawMessage(`{"n":"b"}`)})
	resp, body := post(t, a.signed, a.url+"/v1/auth/verify", `{"token":"`+text+`"}`, nil)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("answer %d %v: %s", resp.StatusCode, resp.Header, body)
	}
	var got map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"user":       `"42"`,
		"expires_at": `"` + a.now.Add(time.Minute).UTC().Format(time.RFC3339) + `"`,
		"channels":   `["news"]`,
		"topics":     `["room:*"]`,
		"info":       `{"n":"b"}`,
	}
	for name, value := range want {
		if string(got[name]) != value {
			t.Errorf("%s is %s, want %s", name, got[name], value)
		}
	}
	if n := testutil.ToFloat64(counter(t, a.reg, "auth_verifications_total", "ok")); n != 1 {
		t.Errorf("counted %v verifications, want 1", n)
	}
}

// counter returns a collector with the value that the registry has under name
// for the one label.
func counter(t *testing.T, reg *prometheus.Registry, name, label string) prometheus.Collector {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "found"})
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == name && m.Label[0].GetValue() == label {
				g.Set(m.Counter.GetValue())
			}
		}
	}
	return g
}

func TestVerifyRefuses(t *testing.T) {
	a := hmacAuth(t)
	other, err := token.NewMinter(token.Config{Keys: parseKeys(t, ":HS256:"+strings.Repeat("x", 32)), Issuer: "us"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	forged, _, err := other.Mint(token.Grant{User: "42"})
	if err != nil {
		t.Fatal(err)
	}
	past, err := token.NewMinter(token.Config{Keys: parseKeys(t, ":HS256:"+tokenSecret), Issuer: "us"},
		func() time.Time { return a.now.Add(-time.Hour) })
	if err != nil {
		t.Fatal(err)
	}
	expired, _, err := past.Mint(token.Grant{User: "42", TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	good := a.mintText(t, token.Grant{User: "42"})
	tests := map[string]struct {
		client *http.Client
		body   string
		status int
		code   push.Code
		detail string
	}{
		"expired":       {a.signed, `{"token":"` + expired + `"}`, 401, push.CodeTokenExpired, ""},
		"forged":        {a.signed, `{"token":"` + forged + `"}`, 401, push.CodeTokenInvalid, ""},
		"garbage":       {a.signed, `{"token":"\u0000\ud83d\ude00"}`, 401, push.CodeTokenInvalid, ""},
		"over 8 KiB":    {a.signed, `{"token":"` + strings.Repeat("\\u0041", push.MaxToken+1) + `"}`, 401, push.CodeTokenInvalid, ""},
		"no token":      {a.signed, `{}`, 401, push.CodeTokenInvalid, ""},
		"token a list":  {a.signed, `{"token":[]}`, 400, push.CodeBadJSON, "token"},
		"unknown field": {a.signed, `{"token":"a","now":1}`, 400, push.CodeUnknownField, "now"},
		"not JSON":      {a.signed, `token`, 400, push.CodeBadJSON, ""},
		"body too long": {a.signed, `{"token":"` + strings.Repeat("a", maxVerifyBody) + `"}`, 413, push.CodeBodyTooLarge, ""},
		"not signed":    {http.DefaultClient, `{"token":"` + good + `"}`, 401, push.CodeSignatureInvalid, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			resp, body := post(t, tt.client, a.url+"/v1/auth/verify", tt.body, nil)
			wantProblem(t, resp, body, tt.status, tt.code, tt.detail)
		})
	}
}

func TestVerifyWhileJWKSIsAway(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	a := newAuth(t, token.Config{Keys: parseKeys(t, "own:HS256:"+tokenSecret), JWKSURL: gone.URL})
	// {"alg":"RS256","kid":"k"} {"sub":"42"}
	resp, body := post(t, a.signed, a.url+"/v1/auth/verify", `{"token":"eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.eyJzdWIiOiI0MiJ9.AAAA"}`, nil)
	wantProblem(t, resp, body, 503, push.CodeUnavailable, "")
	if resp.Header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	resp, body = post(t, a.signed, a.url+"/v1/auth/verify", `{"token":"`+a.mintText(t, token.Grant{User: "42"})+`"}`, nil)
	if resp.StatusCode != 200 {
		t.Errorf("a token of a key at hand gets %d %s while the JWKS is away", resp.StatusCode, body)
	}
	ready, err := http.Get(a.url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	ready.Body.Close()
	if ready.StatusCode != 503 {
		t.Errorf("/readyz is %d though the JWKS was never reached, want 503", ready.StatusCode)
	}
}

func TestOtherRequests(t *testing.T) {
	a := hmacAuth(t)
	tests := map[string]struct {
		method, path string
		status       int
	}{
		"alive":          {"GET", "/healthz", 200},
		"ready":          {"GET", "/readyz", 200},
		"no such path":   {"GET", "/v1/nothing", 404},
		"GET of tokens":  {"GET", "/v1/tokens", 405},
		"PUT of a check": {"PUT", "/v1/auth/verify", 405},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, a.url+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tt.status {
				t.Errorf("%s %s is %d, want %d", tt.method, tt.path, resp.StatusCode, tt.status)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	v, err := token.NewVerifier(token.Config{Keys: parseKeys(t, ":HS256:"+tokenSecret)}, http.DefaultClient, time.Now, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	signing, err := signature.ParseKeys([]string{signingSecret})
	if err != nil {
		t.Fatal(err)
	}
	callers := signature.NewVerifier(signature.VerifierConfig{}, signing)
	if _, err := New(Config{}, v, nil, nil, nil); err == nil {
		t.Error("New without Callers = nil, want an error")
	}
	if _, err := New(Config{Callers: callers}, nil, nil, nil, nil); err == nil {
		t.Error("New without a verifier = nil, want an error")
	}
}
