package collectfn

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/functions/collect/rule"
	"pushcluster/functions/collect/source"
	"pushcluster/shared/handoff"
	"pushcluster/shared/push"
	"pushcluster/shared/secret"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
	"pushcluster/shared/store"
	"pushcluster/shared/store/sqlitestore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A rig is Collect on a real store, with a Dispatch behind a real hand-off that
// confirms what it is told to confirm.
type rig struct {
	t       testing.TB
	h       http.Handler
	collect *Handler // what is in h
	store   *faultyStore
	nodes   *nodes
	hooks   *hooks
	logged  *bytes.Buffer

	mu       sync.Mutex // guards what follows
	clock    time.Time
	chance   float64
	requests []push.DispatchRequest // what Dispatch was asked
	refuse   map[push.MessageID]bool
	down     bool
	away     bool // secrets that are elsewhere
	lookUps  int  // of those
}

// lookUp finds the secrets of the store's sources.
func (r *rig) lookUp(_ context.Context, value string) (string, error) {
	if !strings.HasPrefix(value, "arn:") {
		return value, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lookUps++
	if r.away {
		return "", errors.New("the vault is away")
	}
	return "word of " + value, nil
}

// A faultyStore is a real store whose outbox and whose deliveries can be made to
// fail, and whose list of revocations can be made full. What Collect gives two
// seconds has all the time that it needs: a machine that is busy with other tests
// may take those away.
type faultyStore struct {
	store.Store
	outboxAway     bool
	sourcesAway    bool // its sources cannot be read
	deliveriesAway bool // to be put
	full           bool // of revocations
}

func (s *faultyStore) ListSources(ctx context.Context) ([]store.SourceRecord, error) {
	if s.sourcesAway {
		return nil, store.ErrUnavailable
	}
	return s.Store.ListSources(ctx)
}

func (s *faultyStore) AnyBacklog(ctx context.Context) (bool, error) {
	return s.Store.AnyBacklog(context.WithoutCancel(ctx))
}

func (s *faultyStore) PutDeliveries(ctx context.Context, records []store.Delivery) error {
	if s.deliveriesAway {
		return store.ErrUnavailable
	}
	return s.Store.PutDeliveries(context.WithoutCancel(ctx), records)
}

func (s *faultyStore) TrimDeliveries(ctx context.Context, source string, most int, size int64) (int, error) {
	return s.Store.TrimDeliveries(context.WithoutCancel(ctx), source, most, size)
}

func (s *faultyStore) AddRevocation(ctx context.Context, r push.Revocation, now time.Time, most int) error {
	if s.full {
		most = 0
	}
	return s.Store.AddRevocation(ctx, r, now, most)
}

func (s *faultyStore) PutOutbox(ctx context.Context, entries []store.OutboxEntry) error {
	if s.outboxAway {
		return store.ErrUnavailable
	}
	return s.Store.PutOutbox(ctx, entries)
}

var start = time.Date(2030, 1, 31, 9, 30, 0, 0, time.UTC)

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, clock: start, chance: 0.999, refuse: make(map[push.MessageID]bool), logged: &bytes.Buffer{}}
	st, err := sqlitestore.Open(filepath.Join(t.TempDir(), "store"), sqlitestore.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	if err := st.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.store = &faultyStore{Store: st}
	r.nodes = &nodes{}
	compiler, err := rule.NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewJSONHandler(r.logged, nil)) // of all that logs: two would not keep their lines apart
	r.hooks = &hooks{Live: source.NewLive(nil, r.store, compiler, r.lookUp, r.now, log), compiler: compiler}

	signing, err := signature.ParseKeys([]string{"a signing secret for the tests"})
	if err != nil {
		t.Fatal(err)
	}
	dispatch := httptest.NewServer(signature.Require(signature.NewVerifier(signature.VerifierConfig{}, signing), 8<<20, http.HandlerFunc(r.dispatch)))
	t.Cleanup(dispatch.Close)
	client, err := handoff.New(dispatch.URL, handoff.Config{Deadline: time.Minute}, signature.NewSigner(signing))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	keys, err := secret.ParseKeys("shop:sesame,shop:sesame2,crm:other")
	if err != nil {
		t.Fatal(err)
	}
	collect, err := New(Config{Keys: keys, Questions: r.nodes, Sources: r.hooks, Stored: r.hooks, Now: r.now, Chance: r.luck}, r.store, client, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.collect = collect
	r.h = serve.Wrap("public", collect, log, nil)
	return r
}

func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clock
}

func (r *rig) luck() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.chance
}

// later lets some time pass.
func (r *rig) later(d time.Duration) { r.set(func() { r.clock = r.clock.Add(d) }) }

// set changes what the rig's mutex guards.
func (r *rig) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// asked returns the requests that Dispatch had since the last call.
func (r *rig) asked() []push.DispatchRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := r.requests
	r.requests = nil
	return asked
}

func (r *rig) dispatch(w http.ResponseWriter, req *http.Request) {
	var asked push.DispatchRequest
	if p := serve.Decode(w, req, 8<<20, &asked); p != nil {
		r.t.Errorf("Dispatch refuses the hand-off: %v", p)
		serve.Problem(w, req, p)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		panic(http.ErrAbortHandler)
	}
	r.requests = append(r.requests, asked)
	var a push.DispatchAnswer
	for _, m := range asked.Messages {
		result := push.DispatchResult{ID: m.ID}
		if r.refuse[m.ID] {
			result.Problem = push.NewProblem(push.CodeUnavailable, "the inbox is away")
		}
		a.Results = append(a.Results, result)
	}
	serve.JSON(w, 200, a)
}

// handedOff returns the ids that Dispatch was asked for since the last call.
func (r *rig) handedOff() (ids []push.MessageID, again bool) {
	for _, req := range r.asked() {
		again = again || req.Again
		for _, m := range req.Messages {
			ids = append(ids, m.ID)
		}
	}
	return ids, again
}

// post sends body with the key of shop; headers are pairs.
func (r *rig) post(body string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest("POST", "/v1/messages", strings.NewReader(body))
	req.Header.Set("X-API-Key", "sesame")
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	return r.do(req)
}

func (r *rig) do(req *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r.h.ServeHTTP(w, req)
	return w
}

// outbox returns what is in the outbox and due within a year.
func (r *rig) outbox() []store.OutboxEntry {
	r.t.Helper()
	now := start.AddDate(1, 0, 0)
	entries, err := r.store.ClaimOutbox(r.t.Context(), now, now, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	return entries
}

func (r *rig) stored(id push.MessageID) (store.Record, bool) {
	r.t.Helper()
	found, err := r.store.LoadMessages(r.t.Context(), []push.MessageID{id})
	if err != nil {
		r.t.Fatal(err)
	}
	m, ok := found[id]
	return m, ok
}

func idOf(t testing.TB, w *httptest.ResponseRecorder) push.MessageID {
	t.Helper()
	var a accepted
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != 202 || a.ID == "" {
		t.Fatalf("answer = %d %s, want 202 with an id", w.Code, w.Body)
	}
	return a.ID
}

// decode reads a 200 answer.
func decode(t testing.TB, w *httptest.ResponseRecorder, v any) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), v); err != nil || w.Code != 200 {
		t.Fatalf("answer = %d %s, want 200", w.Code, w.Body)
	}
}

func codeOf(w *httptest.ResponseRecorder) push.Code {
	var p push.Problem
	if json.Unmarshal(w.Body.Bytes(), &p) != nil || p.Status != w.Code || w.Header().Get("Content-Type") != "application/problem+json" {
		return ""
	}
	return p.Code
}

// errReader breaks in the middle of a body.
type errReader struct{ io.Reader }

func (e errReader) Read(b []byte) (int, error) {
	if n, err := e.Reader.Read(b); err == nil {
		return n, nil
	}
	return 0, errors.New("connection reset")
}
