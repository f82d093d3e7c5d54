package verify

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var moment = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// An auth is a stand-in for Auth on a real port, behind the real check of
// signatures. Its tokens are "USER" or "USER SECONDS-TO-LIVE"; other answers
// are set by answer.
type auth struct {
	url    string
	asked  atomic.Int64 // about single tokens
	health atomic.Int64 // the status of /healthz

	mu      sync.Mutex
	answer  http.HandlerFunc                                              // nil: by the token
	batch   func(w http.ResponseWriter, r *http.Request, tokens []string) // nil: by the tokens
	batches []int                                                         // how many tokens each batch had
	arrived chan struct{}                                                 // receives when a question is there
}

func newAuth(t *testing.T) *auth {
	a := &auth{arrived: make(chan struct{}, 1000)}
	keys, err := signature.ParseKeys([]string{"signing-secret-of-at-least-24"})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /v1/auth/verify", signature.Require(
		signature.NewVerifier(signature.VerifierConfig{}, keys), 64<<10, a))
	mux.Handle("POST /v1/auth/verify/batch", signature.Require(
		signature.NewVerifier(signature.VerifierConfig{}, keys), 1<<20, http.HandlerFunc(a.answerBatch)))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(a.health.Load())) })
	a.health.Store(200)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	a.url = srv.URL
	return a
}

func (a *auth) set(h http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = h
}

func (a *auth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.asked.Add(1)
	a.mu.Lock()
	answer := a.answer
	a.mu.Unlock()
	a.arrived <- struct{}{}
	if answer != nil {
		answer(w, r)
		return
	}
	var req push.VerifyRequest
	if p := serve.Decode(w, r, 64<<10, &req); p != nil {
		serve.Problem(w, r, p)
		return
	}
	serve.JSON(w, 200, identityOf(req.Token))
}

func identityOf(token string) push.Identity {
	user, life, _ := strings.Cut(token, " ")
	id := push.Identity{User: push.UserID(user), Topics: []string{"room:*"}}
	if life != "" {
		d, _ := time.ParseDuration(life)
		id.ExpiresAt = moment.Add(d)
	}
	return id
}

// client returns a client that signs with secret, and whose connections are
// closed with the test.
func client(t *testing.T, secret string, base *http.Transport) *http.Client {
	t.Helper()
	keys, err := signature.ParseKeys([]string{secret})
	if err != nil {
		t.Fatal(err)
	}
	if base == nil {
		base = &http.Transport{}
	}
	t.Cleanup(base.CloseIdleConnections)
	return &http.Client{Transport: &signature.Transport{Signer: signature.NewSigner(keys), Base: base}}
}

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

func newVerifier(t *testing.T, cfg Config, a *auth) (*Verifier, *clock) {
	t.Helper()
	c := &clock{now: moment}
	cfg.Deadline = cmp.Or(cfg.Deadline, time.Minute) // the machine may be busy with other tests
	v, err := New(cfg, a.url+"/", client(t, "signing-secret-of-at-least-24", nil), c.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Wait)
	return v, c
}

func want(t *testing.T, v *Verifier, token string, user push.UserID, wantErr error) {
	t.Helper()
	id, err := v.Verify(t.Context(), token)
	if !errors.Is(err, wantErr) || id.User != user {
		t.Errorf("Verify(%.40q) = %+v, %v, want user %q, error %v", token, id, err, user, wantErr)
	}
}

func (a *auth) wantAsked(t *testing.T, n int64) {
	t.Helper()
	if got := a.asked.Load(); got != n {
		t.Errorf("Auth was asked %d times, want %d", got, n)
	}
}

func TestVerifyPassesTheIdentityOn(t *testing.T) {
	a := newAuth(t)
	full := push.Identity{
		User: "42", ExpiresAt: moment.Add(time.Hour), TokenID: "t1", Channels: []push.Channel{"news"},
		Topics: []string{"a", "b*"}, Info: json.RawMessage(`{"a":1}`),
	}
	a.set(func(w http.ResponseWriter, _ *http.Request) { serve.JSON(w, 200, full) })
	v, _ := newVerifier(t, Config{}, a)
	for _, from := range []string{"Auth", "the cache"} {
		got, err := v.Verify(t.Context(), "t")
		if err != nil || !reflect.DeepEqual(got, full) {
			t.Errorf("from %s: %+v, %v, want %+v", from, got, err, full)
		}
	}
	a.wantAsked(t, 1)
}

func TestVerifyReadsAnswers(t *testing.T) {
	problem := func(code push.Code) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { serve.Problem(w, r, push.NewProblem(code, "x")) }
	}
	plain := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); fmt.Fprint(w, body) }
	}
	tests := map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"expired":            {problem(push.CodeTokenExpired), ErrExpired},
		"invalid":            {problem(push.CodeTokenInvalid), ErrInvalid},
		"body too large":     {problem(push.CodeBodyTooLarge), ErrInvalid},
		"unavailable":        {problem(push.CodeUnavailable), ErrUnavailable},
		"our signature":      {problem(push.CodeSignatureStale), ErrUnavailable},
		"internal":           {problem(push.CodeInternal), ErrUnavailable},
		"a balancer's 502":   {plain(502, "<html>"), ErrUnavailable},
		"a stranger's 401":   {plain(401, "no"), ErrUnavailable},
		"200 without JSON":   {plain(200, "hello"), ErrUnavailable},
		"200 without a user": {plain(200, "{}"), ErrUnavailable},
		"200 with a bad one": {plain(200, `{"user":"a*"}`), ErrUnavailable},
		"200 without end":    {plain(200, strings.Repeat(" ", maxAnswer+1)), ErrUnavailable},
		"200, already over":  {plain(200, `{"user":"42","expires_at":"2026-03-01T12:00:00Z"}`), ErrExpired},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAuth(t)
			a.set(tt.answer)
			v, _ := newVerifier(t, Config{}, a)
			want(t, v, "t", "", tt.want)
			want(t, v, "t", "", tt.want)
			a.wantAsked(t, 2) // a bad answer is not kept
			a.set(nil)
			want(t, v, "42", "42", nil)
		})
	}
}

func TestVerifyAsksNothingAboutWhatIsNoToken(t *testing.T) {
	a := newAuth(t)
	v, _ := newVerifier(t, Config{}, a)
	want(t, v, "", "", ErrInvalid)
	want(t, v, strings.Repeat("a", push.MaxToken+1), "", ErrInvalid)
	a.wantAsked(t, 0)
}

func TestVerifyWithAWrongSecret(t *testing.T) {
	a := newAuth(t)
	v, err := New(Config{}, a.url, client(t, "another-secret-of-at-least-24", nil), time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	want(t, v, "42", "", ErrUnavailable) // our fault: the client may try again
}

func TestQuestionsAreCollapsed(t *testing.T) {
	a := newAuth(t)
	v, _ := newVerifier(t, Config{}, a)
	hold := make(chan struct{})
	a.set(func(w http.ResponseWriter, _ *http.Request) { <-hold; serve.JSON(w, 200, push.Identity{User: "42"}) })

	// Whoever asks first gives up; those who share its question do not notice.
	ctx, cancel := context.WithCancel(t.Context())
	impatient := make(chan error, 1)
	go func() { _, err := v.Verify(ctx, "42"); impatient <- err }()
	<-a.arrived
	errs := make(chan error, 20)
	for range 20 {
		go func() { _, err := v.Verify(t.Context(), "42"); errs <- err }()
	}
	cancel()
	if err := <-impatient; !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled caller gets %v", err)
	}
	close(hold)
	for range 20 {
		if err := <-errs; err != nil {
			t.Errorf("Verify = %v, though only another caller gave up", err)
		}
	}
	a.wantAsked(t, 1)
}

func TestDeadline(t *testing.T) {
	a := newAuth(t)
	v, _ := newVerifier(t, Config{Deadline: 50 * time.Millisecond, Parallel: 1}, a)
	hold := make(chan struct{})
	a.set(func(http.ResponseWriter, *http.Request) { <-hold })
	defer close(hold)
	errs := make(chan error, 2)
	for i := range 2 { // one waits for Auth, one for its turn
		go func() { _, err := v.Verify(t.Context(), fmt.Sprint(i)); errs <- err }()
	}
	for range 2 {
		if err := <-errs; !errors.Is(err, ErrUnavailable) {
			t.Errorf("Verify = %v, want ErrUnavailable", err)
		}
	}
}

func TestRetriesAFailedConnectionOnce(t *testing.T) {
	tests := map[string]struct {
		failures int32
		user     push.UserID
		want     error
		dials    int32
	}{
		"one failure":  {1, "42", nil, 2},
		"two failures": {2, "", ErrUnavailable, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAuth(t)
			var dials atomic.Int32
			base := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if dials.Add(1) <= tt.failures {
					return nil, errors.New("no route")
				}
				var d net.Dialer
				return d.DialContext(ctx, network, addr)
			}}
			v, err := New(Config{Deadline: time.Minute}, a.url, client(t, "signing-secret-of-at-least-24", base), time.Now, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(v.Wait)
			want(t, v, "42", tt.user, tt.want)
			if got := dials.Load(); got != tt.dials {
				t.Errorf("%d dials, want %d", got, tt.dials)
			}
		})
	}
}

func TestRetriesAConnectionThatBroke(t *testing.T) {
	a := newAuth(t)
	v, _ := newVerifier(t, Config{}, a)
	a.set(func(w http.ResponseWriter, _ *http.Request) {
		if a.asked.Load() == 1 {
			panic(http.ErrAbortHandler)
		}
		serve.JSON(w, 200, push.Identity{User: "42"})
	})
	want(t, v, "42", "42", nil)
	a.wantAsked(t, 2)
}

func TestReady(t *testing.T) {
	a := newAuth(t)
	v, _ := newVerifier(t, Config{}, a)
	if err := v.Ready(t.Context()); err != nil {
		t.Errorf("Ready = %v while Auth is there", err)
	}
	a.health.Store(503)
	if err := v.Ready(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Ready = %v while Auth answers 503, want ErrUnavailable", err)
	}
	gone, err := New(Config{}, "http://127.0.0.1:1", client(t, "signing-secret-of-at-least-24", nil), time.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.Ready(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Ready = %v while Auth is away, want ErrUnavailable", err)
	}
}

func TestNewRefuses(t *testing.T) {
	tests := map[string]struct {
		cfg Config
		url string
	}{
		"no URL":          {Config{}, ""},
		"no scheme":       {Config{}, "auth:8701"},
		"other scheme":    {Config{}, "sqs://auth"},
		"cached too long": {Config{CacheFor: time.Minute}, "http://auth"},
		"negative":        {Config{Parallel: -1}, "http://auth"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := New(tt.cfg, tt.url, http.DefaultClient, time.Now, nil); err == nil {
				t.Errorf("New(%+v, %q) = nil, want an error", tt.cfg, tt.url)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add(200, []byte(`{"user":"42","expires_at":"2026-03-01T12:00:00Z","topics":["a*"]}`))
	f.Add(401, []byte(`{"code":"token_expired"}`))
	f.Add(502, []byte(`<html>`))
	f.Fuzz(func(t *testing.T, status int, answer []byte) {
		id, err := read(status, answer)
		if err == nil && (status != 200 || id.User.Check() != nil) {
			t.Errorf("read(%d, %q) = %+v", status, answer, id)
		}
	})
}
