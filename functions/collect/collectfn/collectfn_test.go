package collectfn

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"pushcluster/shared/push"
)

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
	uuid, ok := strings.CutPrefix(string(a), "shop/")
	if a == b || !ok || len(uuid) != 36 || uuid[14] != '7' {
		t.Errorf("ids %s and %s, want two UUIDv7 behind the key's name", a, b)
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
	if ids, _ := r.handedOff(); len(ids) != 0 {
		t.Errorf("a repeat after it was due handed off %v, but only the outbox knows whether it was cancelled", ids)
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
		req.Header.Set("X-API-Key", "sesame")
		return r.do(req)
	}
	const stored = `{"id":"shop/2030/é","event":"e","created_at":"2030-01-31T09:30:00Z","expires_at":"2030-01-31T10:30:00Z","state":"stored",` +
		`"recipients":[{"channel":"all","state":"stored","devices":[]}]}`
	tests := map[string]struct {
		path, want string
		status     int
	}{
		"percent-encoded": {"/v1/messages/shop%2F2030%2F%C3%A9", stored, 200},
		"with slashes":    {"/v1/messages/shop/2030/%C3%A9", stored, 200},
		"scheduled":       {"/v1/messages/shop/later", `"state":"scheduled"`, 200},
		"unknown":         {"/v1/messages/shop/nothing", `"not_found"`, 404},
		"no name before":  {"/v1/messages/nothing", `begins with the name of its key`, 404},
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
