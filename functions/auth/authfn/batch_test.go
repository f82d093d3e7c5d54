package authfn

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushcluster/shared/push"
	"pushcluster/shared/signature"
	"pushcluster/shared/token"
)

func batchOf(tokens ...string) string {
	b, _ := json.Marshal(push.VerifyBatchRequest{Tokens: tokens}) // strings are always JSON
	return string(b)
}

func readAnswer(t *testing.T, body string) []push.VerifyResult {
	t.Helper()
	var a push.VerifyBatchAnswer
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatalf("answer %q: %v", body, err)
	}
	return a.Results
}

// TestVerifyBatch has all kinds of tokens come together: each gets what it would
// have got alone.
func TestVerifyBatch(t *testing.T) {
	s := newShelf(t)
	a := newAuthWith(t, token.Config{Keys: parseKeys(t, ":HS256:"+tokenSecret), Issuer: "us"}, s)
	foreign := newAuth(t, token.Config{Keys: parseKeys(t, ":HS256:another-secret-another-secret-another"), Issuer: "us"})
	s.revoke(t, push.Revocation{User: "revoked", At: a.now.Add(time.Second), Until: a.now.Add(time.Hour)})
	full := token.Grant{User: "43", Channels: []push.Channel{"news"}, Topics: []string{"room:*", "b"}, Info: json.RawMessage(`{"a":"<"}`)}
	tests := []struct {
		name, token string
		code        push.Code // empty: good
	}{
		{"good", a.mintText(t, token.Grant{User: "42", Topics: []string{"room:*"}}), ""},
		{"forged", foreign.mintText(t, token.Grant{User: "42"}), push.CodeTokenInvalid},
		{"good, with all there is", a.mintText(t, full), ""},
		{"empty", "", push.CodeTokenInvalid},
		{"no token", `x"\` + "\n", push.CodeTokenInvalid},
		{"too long", strings.Repeat("a", push.MaxToken+1), push.CodeTokenInvalid},
		{"revoked", a.mintText(t, token.Grant{User: "revoked"}), push.CodeTokenInvalid},
		{"good, of another alphabet", a.mintText(t, token.Grant{User: "ä<é"}), ""},
		{"good, the last", a.mintText(t, token.Grant{User: "44"}), ""},
	}
	var tokens []string
	for _, tt := range tests {
		tokens = append(tokens, tt.token)
	}
	resp, body := post(t, a.signed, a.url+"/v1/auth/verify/batch", batchOf(tokens...), nil)
	if resp.StatusCode != 200 || resp.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("answered %d %v %s", resp.StatusCode, resp.Header, body)
	}
	results := readAnswer(t, body)
	if len(results) != len(tests) {
		t.Fatalf("%d results for %d tokens", len(results), len(tests))
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			single, _ := json.Marshal(push.VerifyRequest{Token: tt.token})
			resp, alone := post(t, a.signed, a.url+"/v1/auth/verify", string(single), nil)
			r := results[i]
			if tt.code != "" {
				if r.Identity != nil || r.Problem == nil || r.Problem.Code != tt.code {
					t.Errorf("result %+v, want a problem %s", r, tt.code)
				}
				wantProblem(t, resp, alone, 401, tt.code, "")
				return
			}
			var want push.Identity
			if err := json.Unmarshal([]byte(alone), &want); err != nil {
				t.Fatal(err)
			}
			if r.Identity == nil || r.Problem != nil || !reflect.DeepEqual(*r.Identity, want) {
				t.Errorf("result %+v, alone %s", r, alone)
			}
		})
	}
}

func TestVerifyBatchRefuses(t *testing.T) {
	a := hmacAuth(t)
	many := make([]string, push.MaxTokens+1)
	for i := range many {
		many[i] = fmt.Sprint("t", i)
	}
	tests := map[string]struct {
		client *http.Client
		body   string
		status int
		code   push.Code
	}{
		"unsigned":        {http.DefaultClient, batchOf("t"), 401, push.CodeSignatureInvalid},
		"no tokens":       {a.signed, `{"tokens":[]}`, 400, push.CodeBadRequest},
		"too many":        {a.signed, batchOf(many...), 400, push.CodeBadRequest},
		"not JSON":        {a.signed, `{"tokens":["a`, 400, push.CodeBadJSON},
		"something else":  {a.signed, `{"token":"a"}`, 400, push.CodeUnknownField},
		"too large":       {a.signed, batchOf(strings.Repeat("a", maxBatchBody)), 413, push.CodeBodyTooLarge},
		"tokens a string": {a.signed, `{"tokens":"a"}`, 400, push.CodeBadJSON},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			resp, body := post(t, tt.client, a.url+"/v1/auth/verify/batch", tt.body, nil)
			wantProblem(t, resp, body, tt.status, tt.code, "")
		})
	}
	if _, body := post(t, a.signed, a.url+"/v1/auth/verify/batch", batchOf(many[:push.MaxTokens]...), nil); len(readAnswer(t, body)) != push.MaxTokens {
		t.Errorf("%d tokens got %s", push.MaxTokens, body)
	}
}

// TestVerifyBatchWaitsForNothing sends a token whose key would have to be
// fetched together with one that can be judged.
func TestVerifyBatchWaitsForNothing(t *testing.T) {
	hold := make(chan struct{})
	keys := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hold }))
	defer keys.Close()
	defer close(hold)
	a := newAuth(t, token.Config{Keys: parseKeys(t, "known:HS256:"+tokenSecret), JWKSURL: keys.URL})
	stranger := newAuth(t, token.Config{Keys: parseKeys(t, "strange:HS256:"+tokenSecret)})
	good := a.mintText(t, token.Grant{User: "42"})
	resp, body := post(t, a.signed, a.url+"/v1/auth/verify/batch", batchOf(stranger.mintText(t, token.Grant{User: "42"}), good), nil)
	if resp.StatusCode != 200 {
		t.Fatalf("answered %d %s", resp.StatusCode, body)
	}
	results := readAnswer(t, body)
	if results[0].Identity != nil || results[0].Problem != nil || results[1].Identity == nil {
		t.Errorf("answered %s, want nothing and an identity", body)
	}
	want := "# TYPE auth_verifications_total counter\n# HELP auth_verifications_total Tokens that were judged, by result.\n" +
		"auth_verifications_total{result=\"expired\"} 0\n" + "auth_verifications_total{result=\"invalid\"} 0\n" +
		"auth_verifications_total{result=\"ok\"} 1\n" +
		"auth_verifications_total{result=\"revoked\"} 0\n" + "auth_verifications_total{result=\"unavailable\"} 0\n"
	if err := testutil.GatherAndCompare(a.reg, strings.NewReader(want), "auth_verifications_total"); err != nil {
		t.Error(err)
	}
}

// FuzzPlainTokens holds the quick reading of a batch to the long one.
func FuzzPlainTokens(f *testing.F) {
	f.Add([]byte(`{"tokens":["a","b.c"]}`))
	f.Add([]byte(`{"tokens":["",""]}`))
	f.Add([]byte(`{"tokens":["a"],"tokens":["b"]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		tokens, ok := plainTokens(body)
		if !ok || len(tokens) > push.MaxTokens {
			return
		}
		var want push.VerifyBatchRequest
		if err := json.Unmarshal(body, &want); err != nil || !reflect.DeepEqual(tokens, want.Tokens) {
			t.Errorf("plainTokens(%q) = %q, encoding/json %q, %v", body, tokens, want.Tokens, err)
		}
	})
}

// FuzzAppendAnswer holds what is written by hand to what encoding/json writes.
func FuzzAppendAnswer(f *testing.F) {
	f.Add("42", "t1", "news", "room:*", int64(1900000000), false)
	f.Add("ä\"<\u2028", "", "", "\\", int64(0), true)
	f.Fuzz(func(t *testing.T, user, jti, channel, topic string, seconds int64, info bool) {
		id := push.Identity{User: push.UserID(user), TokenID: jti}
		if seconds > 0 && seconds < 253402300799 {
			id.ExpiresAt, id.IssuedAt = time.Unix(seconds, 0).UTC(), time.UnixMilli(seconds).UTC()
		}
		if channel != "" {
			id.Channels = []push.Channel{push.Channel(channel), "x"}
		}
		if topic != "" {
			id.Topics = []string{"y", topic}
		}
		if info {
			id.Info = json.RawMessage(`{"a":[1,"b"]}`)
		}
		a := push.VerifyBatchAnswer{Results: []push.VerifyResult{{Identity: &id}, {}, {Problem: push.NewProblem(push.CodeTokenExpired, "x")}, {Identity: &id}}}
		var got, want push.VerifyBatchAnswer
		written := appendAnswer(nil, &a)
		plain, err := json.Marshal(a)
		if err != nil || json.Unmarshal(plain, &want) != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(written, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("written %s, want %s (%v)", written, plain, err)
		}
	})
}

// BenchmarkVerifyBatch answers 64 tokens, from request to answer without the
// network.
func BenchmarkVerifyBatch(b *testing.B) {
	keys, err := token.ParseKeys(":HS256:" + tokenSecret)
	if err != nil {
		b.Fatal(err)
	}
	cfg, log := token.Config{Keys: keys}, slog.New(slog.DiscardHandler)
	verifier, err := token.NewVerifier(cfg, nil, time.Now, log, nil)
	if err != nil {
		b.Fatal(err)
	}
	minter, err := token.NewMinter(cfg, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	h, err := New(Config{Callers: signature.NewVerifier(signature.VerifierConfig{}, signature.Keys{})}, verifier, minter, log, nil)
	if err != nil {
		b.Fatal(err)
	}
	tokens := make([]string, 64)
	for i := range tokens {
		if tokens[i], _, err = minter.Mint(token.Grant{User: push.UserID(fmt.Sprint(i))}); err != nil {
			b.Fatal(err)
		}
	}
	body := []byte(batchOf(tokens...))
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		h.verifyBatch(w, httptest.NewRequest(http.MethodPost, "/v1/auth/verify/batch", bytes.NewReader(body)))
		if w.Code != 200 {
			b.Fatal(w.Body)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(tokens)), "ns/token")
}
