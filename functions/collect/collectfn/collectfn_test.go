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
	t      testing.TB
	h      http.Handler
	store  *faultyStore
	logged *bytes.Buffer

	mu       sync.Mutex // guards what follows
	clock    time.Time
	requests []push.DispatchRequest // what Dispatch was asked
	refuse   map[push.MessageID]bool
	down     bool
}

// A faultyStore is a real store whose outbox can be made to fail.
type faultyStore struct {
	store.Store
	outboxAway bool
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
	r := &rig{t: t, clock: start, refuse: make(map[push.MessageID]bool), logged: &bytes.Buffer{}}
	st, err := sqlitestore.Open(filepath.Join(t.TempDir(), "store"), sqlitestore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	if err := st.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.store = &faultyStore{Store: st}

	signing, err := signature.ParseKeys([]string{"a signing secret for the tests"})
	if err != nil {
		t.Fatal(err)
	}
	dispatch := httptest.NewServer(signature.Require(signature.NewVerifier(signature.VerifierConfig{}, signing), 8<<20, http.HandlerFunc(r.dispatch)))
	t.Cleanup(dispatch.Close)
	client, err := handoff.New(dispatch.URL, handoff.Config{}, signature.NewSigner(signing))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	keys, err := secret.ParseKeys("shop:sesame,shop:sesame2,crm:other")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewJSONHandler(r.logged, nil))
	collect, err := New(Config{Keys: keys, Now: r.now}, r.store, client, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.h = serve.Wrap("public", collect, log, nil)
	return r
}

func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clock
}

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

func codeOf(w *httptest.ResponseRecorder) push.Code {
	var p push.Problem
	if json.Unmarshal(w.Body.Bytes(), &p) != nil || p.Status != w.Code || w.Header().Get("Content-Type") != "application/problem+json" {
		return ""
	}
	return p.Code
}

func TestAcceptsAMessage(t *testing.T) {
	r := newRig(t)
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	w := r.post(`{"id":"order-1","to":{"users":["42","7","42"],"channels":["news"],"all":true},
		"data":{"n": 9007199254740993,
			"s":"<a>\u2028"},
		"event":"order.paid","ttl":"90m","collapse_key":"order-1"}`, "traceparent", trace)
	if id := idOf(t, w); id != "shop/order-1" {
		t.Errorf("id = %s, want shop/order-1", id)
	}
	if w.Header().Get(headerReplayed) != "" {
		t.Errorf("a first message is answered as a repeat")
	}
	want := push.Message{
		ID: "shop/order-1", To: push.Recipients{Users: []push.UserID{"42", "7"}, Channels: []push.Channel{"news"}, All: true},
		Event: "order.paid", Data: json.RawMessage(`{"n":9007199254740993,"s":"<a>\u2028"}`), CollapseKey: "order-1",
		CreatedAt: start, ExpiresAt: start.Add(90 * time.Minute), Trace: trace,
	}
	m, ok := r.stored(want.ID)
	m.CreatedAt, m.ExpiresAt = m.CreatedAt.UTC(), m.ExpiresAt.UTC()
	got, _ := json.Marshal(m.Message)
	wanted, _ := json.Marshal(want)
	if !ok || string(got) != string(wanted) {
		t.Errorf("stored %s\nwant   %s", got, wanted)
	}
	asked := r.asked()
	if len(asked) != 1 || asked[0].Again || len(asked[0].Messages) != 1 {
		t.Fatalf("Dispatch was asked %+v, want one message, not again", asked)
	}
	if got, _ := json.Marshal(asked[0].Messages[0]); string(got) != string(wanted) {
		t.Errorf("handed off %s\nwant       %s", got, wanted)
	}
	if out := r.outbox(); len(out) != 0 {
		t.Errorf("outbox = %+v, want it empty", out)
	}
}

func TestMakesAnID(t *testing.T) {
	r := newRig(t)
	a := idOf(t, r.post(`{"to":{"all":true},"data":null}`))
	b := idOf(t, r.post(`{"to":{"all":true},"data":null}`))
	if a == b || len(a) != 36 || a[14] != '7' {
		t.Errorf("ids %s and %s, want two UUIDv7", a, b)
	}
}

func TestIDOfTheSender(t *testing.T) {
	const body = `{"to":{"users":["42"]},"data":1}`
	tests := map[string]struct {
		body, header string
		id           push.MessageID // "" if it is refused
		code         push.Code
	}{
		"field":                   {`{"id":"a","to":{"users":["42"]},"data":1}`, "", "shop/a", ""},
		"bare header":             {body, "a-b_c.1", "shop/a-b_c.1", ""},
		"bare uuid":               {body, "0197f0de-0000-7000-8000-000000000000", "shop/0197f0de-0000-7000-8000-000000000000", ""},
		"quoted header":           {body, ` "a b\"\\,;" `, `shop/a b"\,;`, ""},
		"both, equal":             {`{"id":"a","to":{"users":["42"]},"data":1}`, `"a"`, "shop/a", ""},
		"both, different":         {`{"id":"a","to":{"users":["42"]},"data":1}`, `"b"`, "", push.CodeBadRequest},
		"slash, UTF-8 in field":   {`{"id":"2030/é","to":{"users":["42"]},"data":1}`, "", "shop/2030/é", ""},
		"empty field":             {`{"id":"","to":{"users":["42"]},"data":1}`, "", "", push.CodeInvalidMessage},
		"null field":              {`{"id":null,"to":{"users":["42"]},"data":1}`, "a", "shop/a", ""},
		"long field":              {`{"id":"` + strings.Repeat("x", 256) + `","to":{"users":["42"]},"data":1}`, "", "", push.CodeInvalidMessage},
		"control character":       {`{"id":"a\u0000","to":{"users":["42"]},"data":1}`, "", "", push.CodeInvalidMessage},
		"empty quoted":            {body, `""`, "", push.CodeBadRequest},
		"long header":             {body, strings.Repeat("x", 256), "", push.CodeBadRequest},
		"unclosed":                {body, `"a`, "", push.CodeBadRequest},
		"only a quote":            {body, `"`, "", push.CodeBadRequest},
		"something after":         {body, `"a"b`, "", push.CodeBadRequest},
		"parameter":               {body, `"a";q=1`, "", push.CodeBadRequest},
		"bad escape":              {body, `"a\n"`, "", push.CodeBadRequest},
		"escape at the end":       {body, `"a\`, "", push.CodeBadRequest},
		"list":                    {body, `a, b`, "", push.CodeBadRequest},
		"beyond ASCII":            {body, "é", "", push.CodeBadRequest},
		"beyond ASCII, in quotes": {body, `"é"`, "", push.CodeBadRequest},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			w := r.post(tt.body, "Idempotency-Key", tt.header)
			if tt.id == "" {
				if got := codeOf(w); got != tt.code {
					t.Errorf("answer = %d %s, want %s", w.Code, w.Body, tt.code)
				}
				return
			}
			if id := idOf(t, w); id != tt.id {
				t.Errorf("id = %q, want %q", id, tt.id)
			}
		})
	}
}

func TestRepeat(t *testing.T) {
	first := `{"id":"a","to":{"users":["42","7"]},"data":{"a":1,"b":"é"},"ttl":"1h"}`
	tests := map[string]struct {
		body string
		key  string // X-API-Key
		same bool
	}{
		"letter by letter":   {first, "sesame", true},
		"rotated key":        {first, "sesame2", true},
		"other order, space": {`{ "ttl":"60m", "to":{"users":["7","42","7"]}, "data":{"b":"\u00e9", "a":1}, "id":"a" }`, "sesame", true},
		"other data":         {`{"id":"a","to":{"users":["42","7"]},"data":{"a":2,"b":"é"},"ttl":"1h"}`, "sesame", false},
		"other number":       {`{"id":"a","to":{"users":["42","7"]},"data":{"a":1.0,"b":"é"},"ttl":"1h"}`, "sesame", false},
		"other user":         {`{"id":"a","to":{"users":["42"]},"data":{"a":1,"b":"é"},"ttl":"1h"}`, "sesame", false},
		"other kind of name": {`{"id":"a","to":{"channels":["42","7"]},"data":{"a":1,"b":"é"},"ttl":"1h"}`, "sesame", false},
		"to all":             {`{"id":"a","to":{"users":["42","7"],"all":true},"data":{"a":1,"b":"é"},"ttl":"1h"}`, "sesame", false},
		"other ttl":          {`{"id":"a","to":{"users":["42","7"]},"data":{"a":1,"b":"é"}}`, "sesame", false},
		"other event":        {`{"id":"a","to":{"users":["42","7"]},"data":{"a":1,"b":"é"},"ttl":"1h","event":"e"}`, "sesame", false},
		"other collapse key": {`{"id":"a","to":{"users":["42","7"]},"data":{"a":1,"b":"é"},"ttl":"1h","collapse_key":"e"}`, "sesame", false},
		"other deliver_at":   {`{"id":"a","to":{"users":["42","7"]},"data":{"a":1,"b":"é"},"ttl":"1h","deliver_at":"2030-01-01T00:00:00Z"}`, "sesame", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			id := idOf(t, r.post(first))
			r.handedOff()
			r.set(func() { r.clock = start.Add(10 * time.Minute) })
			w := r.post(tt.body, "X-API-Key", tt.key)
			ids, again := r.handedOff()
			if !tt.same {
				if codeOf(w) != push.CodeIDReused || len(ids) != 0 {
					t.Errorf("answer = %d %s, handed off %v, want %s and nothing", w.Code, w.Body, ids, push.CodeIDReused)
				}
				return
			}
			if got := idOf(t, w); got != id || w.Header().Get(headerReplayed) != "true" {
				t.Errorf("answer = %s %v, want %s with %s: true", w.Body, w.Header(), id, headerReplayed)
			}
			if len(ids) != 1 || ids[0] != id || !again {
				t.Errorf("handed off %v, again %v, want %s again", ids, again, id)
			}
			if m, _ := r.stored(id); !m.ExpiresAt.Equal(start.Add(time.Hour)) {
				t.Errorf("the repeat moved the expiry to %s", m.ExpiresAt)
			}
		})
	}
}

func TestRepeatKeepsTheFirstDates(t *testing.T) {
	r := newRig(t)
	body := `{"id":"a","to":{"all":true},"data":1,"ttl":"1h"}`
	r.post(body)
	r.set(func() { r.clock = start.Add(30 * time.Minute) })
	r.handedOff()
	r.post(body)
	r.post(body)
	for _, req := range r.asked() {
		if m := req.Messages[0]; !m.CreatedAt.Equal(start) || !m.ExpiresAt.Equal(start.Add(time.Hour)) {
			t.Errorf("the repeat was handed off as created %s, expiring %s; want %s and an hour later", m.CreatedAt, m.ExpiresAt, start)
		}
	}
}

func TestSameIDOfAnotherKey(t *testing.T) {
	r := newRig(t)
	a := idOf(t, r.post(`{"id":"a","to":{"all":true},"data":1}`))
	b := idOf(t, r.post(`{"id":"a","to":{"all":true},"data":2}`, "X-API-Key", "", "Authorization", "Bearer other"))
	if a != "shop/a" || b != "crm/a" {
		t.Errorf("ids %s and %s, want shop/a and crm/a", a, b)
	}
}

func TestDispatchAway(t *testing.T) {
	r := newRig(t)
	r.set(func() { r.down = true })
	w := r.post(`[{"id":"a","to":{"all":true},"data":1},{"id":"b","to":{"all":true},"data":1}]`)
	if w.Code != 202 || strings.Count(w.Body.String(), `"id"`) != 2 {
		t.Errorf("answer = %d %s, want 202 with two ids", w.Code, w.Body)
	}
	out := r.outbox()
	if len(out) != 2 || out[0].Message != "shop/a" || out[1].Message != "shop/b" || out[0].Attempts != 1 || !strings.Contains(out[0].Reason, "cannot be reached") {
		t.Errorf("outbox = %+v, want shop/a, then shop/b, each tried once, with the reason", out)
	}
	if ready := r.do(httptest.NewRequest("GET", "/readyz", nil)); ready.Code != 200 {
		t.Errorf("/readyz = %d while Dispatch is away, want 200", ready.Code)
	}
	// Told once, not for each request.
	r.post(`{"to":{"all":true},"data":1}`)
	r.set(func() { r.down = false })
	r.post(`{"to":{"all":true},"data":1}`)
	if log := r.logged.String(); strings.Count(log, `"fails"`) != 1 || strings.Count(log, "works again") != 1 {
		t.Errorf("log:\n%s\nwant one line that it fails and one that it works again", log)
	}
}

func TestWhatDispatchRefusesWaits(t *testing.T) {
	r := newRig(t)
	r.set(func() { r.refuse["shop/b"] = true })
	r.post(`[{"id":"a","to":{"all":true},"data":1},{"id":"b","to":{"all":true},"data":1},{"id":"c","to":{"all":true},"data":1}]`)
	if ids, _ := r.handedOff(); len(ids) != 3 || ids[0] != "shop/a" || ids[1] != "shop/b" || ids[2] != "shop/c" {
		t.Errorf("handed off %v, want the array's order", ids)
	}
	if out := r.outbox(); len(out) != 1 || out[0].Message != "shop/b" || !strings.Contains(out[0].Reason, "unavailable") {
		t.Errorf("outbox = %+v, want shop/b with its reason", out)
	}
}

func TestOutboxAwayToo(t *testing.T) {
	r := newRig(t)
	r.store.outboxAway = true
	r.set(func() { r.down = true })
	w := r.post(`{"id":"a","to":{"all":true},"data":1}`)
	if codeOf(w) != push.CodeUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("answer = %d %s, want 503 with Retry-After", w.Code, w.Body)
	}
	w = r.post(`[{"id":"x","to":{"all":true},"data":1},{"id":"x","to":{"all":true},"data":1}]`)
	if w.Code != 202 || strings.Count(w.Body.String(), string(push.CodeUnavailable)) != 4 { // code and type, twice
		t.Errorf("answer = %d %s, want a problem for both, since the second is the first", w.Code, w.Body)
	}
	r.store.outboxAway = false
	r.set(func() { r.down = false })
	r.handedOff()
	w = r.post(`{"id":"a","to":{"all":true},"data":1}`)
	if ids, again := r.handedOff(); w.Code != 202 || len(ids) != 1 || !again {
		t.Errorf("sent again: %d %s, handed off %v again %v; want it delivered now", w.Code, w.Body, ids, again)
	}
}

func TestStoreAway(t *testing.T) {
	r := newRig(t)
	r.store.Close()
	for _, body := range []string{`{"to":{"all":true},"data":1}`, `[{"to":{"all":true},"data":1},{}]`} {
		w := r.post(body)
		if codeOf(w) != push.CodeUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("POST %s = %d %s, want 503 with Retry-After", body, w.Code, w.Body)
		}
	}
	if ids, _ := r.handedOff(); len(ids) != 0 {
		t.Errorf("handed off %v, which is not stored", ids)
	}
	if w := r.do(httptest.NewRequest("GET", "/readyz", nil)); w.Code != 503 || !strings.Contains(w.Body.String(), "store") {
		t.Errorf("/readyz = %d %s, want 503 naming the store", w.Code, w.Body)
	}
	if w := r.do(httptest.NewRequest("GET", "/healthz", nil)); w.Code != 200 {
		t.Errorf("/healthz = %d, want 200", w.Code)
	}
}

func TestScheduled(t *testing.T) {
	r := newRig(t)
	body := `{"id":"a","to":{"all":true},"data":1,"ttl":"1h","deliver_at":"2030-01-31T12:30:00+02:00"}`
	due := start.Add(time.Hour)
	idOf(t, r.post(body))
	if ids, _ := r.handedOff(); len(ids) != 0 {
		t.Errorf("handed off %v before it is due", ids)
	}
	m, _ := r.stored("shop/a")
	if !m.DeliverAt.Equal(due) || !m.ExpiresAt.Equal(due.Add(time.Hour)) {
		t.Errorf("stored for %s until %s, want %s and an hour later", m.DeliverAt, m.ExpiresAt, due)
	}
	if w := r.post(body); w.Header().Get(headerReplayed) != "true" {
		t.Errorf("the repeat is answered %d %v", w.Code, w.Header())
	}
	if out := r.outbox(); len(out) != 1 || !out[0].DueAt.Equal(due) || out[0].Attempts != 0 {
		t.Errorf("outbox = %+v, want one entry due at %s", out, due)
	}
	r.set(func() { r.clock = due.Add(time.Minute) })
	r.post(body)
	if asked := r.asked(); len(asked) != 1 || !asked[0].Again || !asked[0].Messages[0].ExpiresAt.Equal(due.Add(time.Hour)) {
		t.Errorf("a repeat after it was due handed off %+v, want it again with the same expiry", asked)
	}
	idOf(t, r.post(`{"id":"past","to":{"all":true},"data":1,"deliver_at":"2020-01-01T00:00:00Z"}`))
	if ids, _ := r.handedOff(); len(ids) != 1 {
		t.Errorf("a deliver_at in the past handed off %v, want it at once", ids)
	}
	r.store.outboxAway = true
	w := r.post(`{"to":{"all":true},"data":1,"deliver_at":"2030-02-01T00:00:00Z"}`)
	if codeOf(w) != push.CodeUnavailable {
		t.Errorf("scheduled without an outbox = %d %s, want 503", w.Code, w.Body)
	}
}

func TestBatch(t *testing.T) {
	r := newRig(t)
	idOf(t, r.post(`{"id":"old","to":{"all":true},"data":1}`))
	r.handedOff()
	w := r.post(`[
		{"id":"a","to":{"users":["42"]},"data":1},
		5,
		null,
		{"id":"b","to":{"users":["42"]}},
		{"id":"old","to":{"all":true},"data":1},
		{"id":"old","to":{"all":true},"data":2},
		{"id":"a","to":{"users":["42"]},"data":1},
		{"id":"c","to":{"users":["42"]},"data":1,"nope":1},
		{"id":"d","to":{"users":["42"]},"data":1}
	]`)
	var got []struct {
		ID   push.MessageID
		Code push.Code
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 202 {
		t.Fatalf("answer = %d %s, want 202 and an array", w.Code, w.Body)
	}
	want := []string{"shop/a", "bad_json", "bad_json", "invalid_message", "shop/old", "id_reused", "shop/a", "unknown_field", "shop/d"}
	if len(got) != len(want) {
		t.Fatalf("answer = %s, want %d items", w.Body, len(want))
	}
	for i, w := range want {
		if string(got[i].ID)+string(got[i].Code) != w {
			t.Errorf("item %d = %+v, want %s", i, got[i], w)
		}
	}
	ids, again := r.handedOff()
	if len(ids) != 3 || ids[0] != "shop/a" || ids[1] != "shop/old" || ids[2] != "shop/d" || !again {
		t.Errorf("handed off %v again %v, want shop/a, shop/old, shop/d, each once", ids, again)
	}
}

func TestBatchWithIdempotencyKey(t *testing.T) {
	r := newRig(t)
	body := `[{"to":{"all":true},"data":1},{"id":"own","to":{"all":true},"data":1}]`
	first := r.post(body, "Idempotency-Key", "k")
	second := r.post(body, "Idempotency-Key", "k")
	const want = `[{"id":"shop/k/0"},{"id":"shop/own"}]`
	if strings.TrimSpace(first.Body.String()) != want || first.Body.String() != second.Body.String() {
		t.Errorf("answers %s and %s, want %s twice", first.Body, second.Body, want)
	}
}

func TestConcurrentRepeats(t *testing.T) {
	r := newRig(t)
	var wg sync.WaitGroup
	replayed := make(chan bool, 20)
	for range cap(replayed) {
		wg.Go(func() {
			w := r.post(`{"id":"a","to":{"all":true},"data":1}`)
			if w.Code != 202 {
				t.Errorf("answer = %d %s", w.Code, w.Body)
			}
			replayed <- w.Header().Get(headerReplayed) == "true"
		})
	}
	wg.Wait()
	close(replayed)
	first := 0
	for again := range replayed {
		if !again {
			first++
		}
	}
	if first != 1 {
		t.Errorf("%d requests were the first, want one", first)
	}
}

func TestSenderHangsUp(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := httptest.NewRequestWithContext(ctx, "POST", "/v1/messages", strings.NewReader(`{"id":"a","to":{"all":true},"data":1}`))
	req.Header.Set("X-API-Key", "sesame")
	r.do(req)
	if _, ok := r.stored("shop/a"); !ok {
		t.Error("the message is not stored")
	}
	if ids, _ := r.handedOff(); len(ids) != 1 {
		t.Errorf("handed off %v, want what was stored", ids)
	}
}

func TestStatus(t *testing.T) {
	r := newRig(t)
	r.post(`{"id":"2030/é","to":{"all":true},"data":1,"event":"e","ttl":"1h"}`)
	r.post(`{"id":"later","to":{"all":true},"data":1,"deliver_at":"2030-02-01T00:00:00Z"}`)
	get := func(path string) *httptest.ResponseRecorder {
		req := httptest.NewRequest("GET", path, nil)
		req.Header.Set("X-API-Key", "other")
		return r.do(req)
	}
	const stored = `{"id":"shop/2030/é","event":"e","created_at":"2030-01-31T09:30:00Z","expires_at":"2030-01-31T10:30:00Z","state":"stored"}`
	tests := map[string]struct {
		path, want string
		status     int
	}{
		"percent-encoded": {"/v1/messages/shop%2F2030%2F%C3%A9", stored, 200},
		"with slashes":    {"/v1/messages/shop/2030/%C3%A9", stored, 200},
		"scheduled":       {"/v1/messages/shop/later", `"state":"scheduled"`, 200},
		"unknown":         {"/v1/messages/shop/nothing", `"not_found"`, 404},
		"none":            {"/v1/messages/", `"not_found"`, 404},
		"too long":        {"/v1/messages/" + strings.Repeat("x", 600), `"not_found"`, 404},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if w := get(tt.path); w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
				t.Errorf("GET %s = %d %s, want %d %s", tt.path, w.Code, w.Body, tt.status, tt.want)
			}
		})
	}
	r.set(func() { r.clock = start.Add(time.Hour) })
	if w := get("/v1/messages/shop%2F2030%2F%C3%A9"); !strings.Contains(w.Body.String(), `"expired"`) {
		t.Errorf("an hour later: %s, want it expired", w.Body)
	}
	if w := r.do(httptest.NewRequest("GET", "/v1/messages/shop/later", nil)); w.Code != 401 {
		t.Errorf("without a key: %d, want 401", w.Code)
	}
	r.store.Close()
	if w := get("/v1/messages/shop/later"); w.Code != 503 {
		t.Errorf("without a store: %d, want 503", w.Code)
	}
}

func TestNewNeedsKeys(t *testing.T) {
	if _, err := New(Config{}, nil, nil, nil, nil); err == nil {
		t.Error("New without keys = nil error")
	}
}

// errReader breaks in the middle of a body.
type errReader struct{ io.Reader }

func (e errReader) Read(b []byte) (int, error) {
	if n, err := e.Reader.Read(b); err == nil {
		return n, nil
	}
	return 0, errors.New("connection reset")
}
