package signature

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/shared/push"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestTransportToRequire sends over a real connection: what Transport signs,
// Require lets through with its body whole.
func TestTransportToRequire(t *testing.T) {
	var clock atomic.Int64
	clock.Store(time.Now().Unix())
	now := func() time.Time { return time.Unix(clock.Load(), 0) }
	v := NewVerifier(VerifierConfig{Now: now}, keysOf(t, secretB, secretA))
	server := httptest.NewServer(Require(v, 1000, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	})))
	defer server.Close()
	client := func(at time.Duration, secrets ...string) *http.Client {
		return &http.Client{Transport: &Transport{
			Signer: NewSigner(keysOf(t, secrets...)), Base: server.Client().Transport,
			Now: func() time.Time { return now().Add(at) }}}
	}
	tests := map[string]struct {
		client *http.Client
		body   string
		status int
		code   push.Code
	}{
		"signed":        {client(0, secretB), "hello", 200, ""},
		"no body":       {client(0, secretB), "", 200, ""},
		"old secret":    {client(0, secretA), "hello", 200, ""},
		"rotating":      {client(0, secretC, secretA), "hello", 200, ""},
		"at the limit":  {client(0, secretB), strings.Repeat("x", 1000), 200, ""},
		"over it":       {client(0, secretB), strings.Repeat("x", 1001), 413, push.CodeBodyTooLarge},
		"wrong secret":  {client(0, secretC), "hello", 401, push.CodeSignatureInvalid},
		"unsigned":      {server.Client(), "hello", 401, push.CodeSignatureInvalid},
		"old timestamp": {client(-time.Hour, secretB), "hello", 401, push.CodeSignatureStale},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for range 2 { // signed anew, the same body is no replay
				res, err := tt.client.Post(server.URL+"/v1/x", "text/plain", strings.NewReader(tt.body))
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(res.Body)
				res.Body.Close()
				if res.StatusCode != tt.status {
					t.Fatalf("answer = %d %s, want %d", res.StatusCode, body, tt.status)
				}
				if tt.code == "" {
					if string(body) != tt.body {
						t.Errorf("the handler read %q, want %q", body, tt.body)
					}
					continue
				}
				var p push.Problem
				if err := json.Unmarshal(body, &p); err != nil || p.Code != tt.code || p.Instance != "/v1/x" {
					t.Errorf("body = %s, want code %s", body, tt.code)
				}
			}
		})
	}
}

func TestRequireRefusesReplays(t *testing.T) {
	now := time.Now()
	v := NewVerifier(VerifierConfig{Now: func() time.Time { return now }}, keysOf(t, secretB))
	h := Require(v, 1000, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	r := httptest.NewRequest("POST", "/", nil)
	if err := NewSigner(keysOf(t, secretB)).Sign(r.Header, "req_1", now, []byte("body")); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{200, 401, 401} {
		r.Body = io.NopCloser(strings.NewReader("body"))
		r.ContentLength = 4
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want || (want == 401 && !strings.Contains(w.Body.String(), string(push.CodeSignatureStale))) {
			t.Errorf("try %d = %d %s, want %d", i+1, w.Code, w.Body, want)
		}
	}
}

func TestReplays(t *testing.T) {
	start := time.Unix(1_790_000_000, 0)
	s := &replays{span: 10 * time.Minute, most: 100}
	steps := []struct {
		id    string
		after time.Duration
		first bool
	}{
		{"a", 0, true},
		{"a", 0, false},
		{"b", 9 * time.Minute, true},
		{"a", 10 * time.Minute, false}, // a new generation begins; the old one is kept
		{"b", 18 * time.Minute, false}, // 9 minutes old
		{"c", 20 * time.Minute, true},
		{"b", 20 * time.Minute, true}, // forgotten, and its timestamp is long stale
	}
	for i, step := range steps {
		if got := s.first(step.id, start.Add(step.after)); got != step.first {
			t.Errorf("step %d: first(%s) after %s = %v, want %v", i, step.id, step.after, got, step.first)
		}
	}
	for i := range 10_000 {
		s.first(fmt.Sprint(i), start.Add(21*time.Minute))
	}
	if n := len(s.young) + len(s.old); n > 200 {
		t.Errorf("%d ids are remembered, more than twice %d", n, s.most)
	}
	if s.first("9999", start.Add(21*time.Minute)) {
		t.Error("the newest id was forgotten")
	}
}

func TestTransportReadsNoBodyTwice(t *testing.T) {
	var got string
	base := roundTrip(func(r *http.Request) (*http.Response, error) {
		b, _ := io.ReadAll(r.Body)
		got = string(b)
		if r.ContentLength != int64(len(b)) {
			t.Errorf("ContentLength = %d, want %d", r.ContentLength, len(b))
		}
		return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
	})
	tr := &Transport{Signer: NewSigner(keysOf(t, secretA)), Base: base}
	r, _ := http.NewRequest("POST", "http://x/", io.NopCloser(strings.NewReader("once")))
	if _, err := tr.RoundTrip(r); err != nil || got != "once" {
		t.Errorf("RoundTrip sent %q, %v, want %q", got, err, "once")
	}
	if r.Header.Get(HeaderSignature) != "" {
		t.Error("RoundTrip changed the request it was given")
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A statement stands in for a body: a signature over anything else is none.
func TestRequireStatement(t *testing.T) {
	now := time.Now()
	v := NewVerifier(VerifierConfig{Now: func() time.Time { return now }}, keysOf(t, secretA))
	h := RequireStatement(v, func(r *http.Request) []byte { return []byte("about " + r.URL.Query().Get("of")) },
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }))
	tests := map[string]struct {
		signed string // "" is not signed at all
		at     time.Time
		times  int
		status int
	}{
		"about it":        {"about x", now, 1, 204},
		"twice":           {"about x", now, 2, 401},
		"about another":   {"about y", now, 1, 401},
		"unsigned":        {"", now, 1, 401},
		"a long time ago": {"about x", now.Add(-time.Hour), 1, 401},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/?of=x", nil)
			if tt.signed != "" {
				if err := NewSigner(keysOf(t, secretA)).Sign(r.Header, strings.ReplaceAll(name, " ", "-"), tt.at, []byte(tt.signed)); err != nil {
					t.Fatal(err)
				}
			}
			var status int
			for range tt.times {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				status = w.Code
			}
			if status != tt.status {
				t.Errorf("the request is answered %d, want %d", status, tt.status)
			}
		})
	}
}
