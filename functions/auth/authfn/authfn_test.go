package authfn

import (
	"bytes"
	"encoding/json"
	"fmt"
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
		APIKeys: apiKeys,
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

func TestMintThenVerify(t *testing.T) {
	a := hmacAuth(t)
	tests := map[string]struct {
		body   string
		header http.Header
		ttl    time.Duration
	}{
		"user alone":     {`{"user":"42"}`, http.Header{"X-Api-Key": {"key-of-the-shop"}}, time.Hour},
		"everything":     {`{"user":"42","ttl":"90m","channels":["news"],"topics":["room:*","a"],"info":{"a":1}}`, http.Header{"X-Api-Key": {"key-of-the-shop"}}, 90 * time.Minute},
		"bearer":         {`{"user":"42","ttl":"720h"}`, http.Header{"Authorization": {"Bearer its-next-key"}}, 720 * time.Hour},
		"nulls":          {`{"user":"42","channels":null,"topics":null,"info":null}`, http.Header{"X-Api-Key": {"its-next-key"}}, time.Hour},
		"another script": {`{"user":"ユーザー","ttl":"1s"}`, http.Header{"X-Api-Key": {"its-next-key"}}, time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			resp, body := post(t, http.DefaultClient, a.url+"/v1/tokens", tt.body, tt.header)
			var got mintAnswer
			if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != http.StatusCreated {
				t.Fatalf("answer %d %s", resp.StatusCode, body)
			}
			if want := a.now.Add(tt.ttl); !got.ExpiresAt.Equal(want) {
				t.Errorf("expires_at %s, want %s", got.ExpiresAt, want)
			}
			if resp, body = post(t, a.signed, a.url+"/v1/auth/verify", `{"token":"`+got.Token+`"}`, nil); resp.StatusCode != 200 {
				t.Errorf("the minted token gets %d %s", resp.StatusCode, body)
			}
		})
	}
}

func TestMintRefuses(t *testing.T) {
	a := hmacAuth(t)
	key := http.Header{"X-Api-Key": {"key-of-the-shop"}}
	many := strings.TrimSuffix(strings.Repeat(`"t",`, 129), ",")
	tests := map[string]struct {
		body   string
		header http.Header
		status int
		code   push.Code
		detail string
	}{
		"no key":           {`{"user":"42"}`, nil, 401, push.CodeUnauthorized, ""},
		"wrong key":        {`{"user":"42"}`, http.Header{"X-Api-Key": {"key-of-the-shoq"}}, 401, push.CodeUnauthorized, ""},
		"name for the key": {`{"user":"42"}`, http.Header{"X-Api-Key": {"shop"}}, 401, push.CodeUnauthorized, ""},
		"empty bearer":     {`{"user":"42"}`, http.Header{"Authorization": {"Bearer "}}, 401, push.CodeUnauthorized, ""},
		"basic":            {`{"user":"42"}`, http.Header{"Authorization": {"Basic key-of-the-shop"}}, 401, push.CodeUnauthorized, ""},
		"not JSON":         {`user=42`, key, 400, push.CodeBadJSON, ""},
		"array":            {`[{"user":"42"}]`, key, 400, push.CodeBadJSON, ""},
		"unknown field":    {`{"user":"42","sub":"43"}`, key, 400, push.CodeUnknownField, "sub"},
		"user a number":    {`{"user":42}`, key, 400, push.CodeBadJSON, "user"},
		"ttl a number":     {`{"user":"42","ttl":60}`, key, 400, push.CodeBadJSON, "ttl"},
		"no user":          {`{}`, key, 422, push.CodeInvalidValue, "user"},
		"user with brace":  {`{"user":"a{b"}`, key, 422, push.CodeInvalidValue, "user"},
		"ttl no duration":  {`{"user":"42","ttl":"soon"}`, key, 422, push.CodeInvalidValue, "ttl"},
		"ttl zero":         {`{"user":"42","ttl":"0s"}`, key, 422, push.CodeInvalidValue, "ttl"},
		"ttl negative":     {`{"user":"42","ttl":"-1h"}`, key, 422, push.CodeInvalidValue, "ttl"},
		"ttl over 30 days": {`{"user":"42","ttl":"721h"}`, key, 422, push.CodeInvalidValue, "ttl"},
		"bad channel":      {`{"user":"42","channels":["a","b*"]}`, key, 422, push.CodeInvalidValue, "channels[1]"},
		"bad topic":        {`{"user":"42","topics":["#43"]}`, key, 422, push.CodeInvalidValue, "topics[0]"},
		"many topics":      {`{"user":"42","topics":[` + many + `]}`, key, 422, push.CodeInvalidValue, "129 topics"},
		"info too large":   {fmt.Sprintf(`{"user":"42","info":"%s"}`, strings.Repeat("a", push.MaxToken)), key, 422, push.CodeInvalidValue, "bytes long"},
		"body too large":   {`{"user":"` + strings.Repeat("a", maxMintBody) + `"}`, key, 413, push.CodeBodyTooLarge, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			resp, body := post(t, http.DefaultClient, a.url+"/v1/tokens", tt.body, tt.header)
			wantProblem(t, resp, body, tt.status, tt.code, tt.detail)
		})
	}
}

func TestMintWithoutAKeyThatSigns(t *testing.T) {
	a := newAuth(t, token.Config{Keys: parseKeys(t, "a:EdDSA:MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=")})
	resp, body := post(t, http.DefaultClient, a.url+"/v1/tokens", `{"user":"42"}`, http.Header{"X-Api-Key": {"key-of-the-shop"}})
	wantProblem(t, resp, body, 404, push.CodeNotFound, "TOKEN_KEYS")
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

func FuzzMintRequest(f *testing.F) {
	f.Add([]byte(`{"user":"42","ttl":"90m","channels":["news"],"topics":["room:*"],"info":{"a":1}}`))
	f.Add([]byte(`{"user":"42","info":"<>&"}`))
	keys, err := token.ParseKeys(":HS256:" + tokenSecret)
	if err != nil {
		f.Fatal(err)
	}
	cfg := token.Config{Keys: keys}
	minter, err := token.NewMinter(cfg, time.Now)
	if err != nil {
		f.Fatal(err)
	}
	verifier, err := token.NewVerifier(cfg, http.DefaultClient, time.Now, nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var req mintRequest
		if serve.DecodeBytes(body, &req) != nil {
			return
		}
		g, p := req.grant()
		if p != nil {
			return
		}
		text, _, err := minter.Mint(g)
		if err != nil {
			return
		}
		if id, err := verifier.Verify(t.Context(), text); err != nil || id.User != req.User {
			t.Errorf("%q mints a token that says %+v, %v", body, id, err)
		}
	})
}
