package collectfn

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

const callbackFile = `
sources:
  store:
    verify: gitlab
    secrets: store token
    callback: {url: "https://shop.example/pushed", secrets: a secret to sign callbacks with, events: [message.received]}
    rules:
      - name: one
        to: { users: '"42"' }
      - name: two
        when: has(body.all)
        to: { all: "true" }
  quiet:
    verify: gitlab
    secrets: quiet token
    rules: { name: one, to: { users: '"42"' } }
`

// brokenCallbacks is a store that does not take callbacks.
type brokenCallbacks struct{ store.Store }

func (brokenCallbacks) PutCallbacks(context.Context, []store.Callback) error {
	return store.ErrUnavailable
}

// awaited returns which messages have a callback that is due within a year, by
// claiming them for no time.
func (r *rig) awaited() map[push.MessageID]store.Callback {
	r.t.Helper()
	at := start.AddDate(1, 0, 0)
	list, err := r.store.ClaimCallbacks(r.t.Context(), at, at, 100)
	if err != nil {
		r.t.Fatal(err)
	}
	found := make(map[push.MessageID]store.Callback)
	for _, c := range list {
		found[c.Message] = c
	}
	return found
}

// TestCallbacksArePut: each message of a source that wants to be told has its
// callback, whatever its sender repeats; others have none.
func TestCallbacksArePut(t *testing.T) {
	r := newRig(t)
	hook := func(name, delivery, body string) *httptest.ResponseRecorder {
		return r.hook(name, body, "X-Gitlab-Token", name+" token", "Content-Type", "application/json", "Idempotency-Key", delivery)
	}
	r.load(callbackFile)
	deliveryOf(t, hook("store", "d1", `{"all":1}`))
	deliveryOf(t, hook("quiet", "d1", `{}`))
	r.post(`{"to":{"users":["42"]},"data":1,"id":"m"}`)
	found := r.awaited()
	if len(found) != 2 {
		t.Fatalf("callbacks of %v, want those of store/d1/one and store/d1/two", found)
	}
	c := found["store/d1/one"]
	if c.Source != "store" || !c.DueAt.After(start) || !c.Until.Equal(start.Add(push.DefaultTTL+push.RepeatWindow)) || len(c.Progress) > 0 {
		t.Errorf("the callback is %+v", c)
	}

	// All is told, and then the delivery comes again: nothing begins anew.
	c.State = store.CallbackEnded
	if err := r.store.KeepCallbacks(t.Context(), []store.Callback{c}); err != nil {
		t.Fatal(err)
	}
	r.set(func() { r.clock = start.Add(time.Minute) })
	deliveryOf(t, hook("store", "d1", `{"all":2}`))
	if found := r.awaited(); len(found) != 1 || !found["store/d1/two"].DueAt.Equal(start.Add(time.Second)) {
		t.Errorf("after a repeat callbacks of %v, want that of store/d1/two as it was", found)
	}

	// The store fails between message and callback: the sender sends it again.
	whole := r.store.Store
	r.store.Store = brokenCallbacks{whole}
	if w := hook("store", "d2", `{}`); w.Code != 503 || codeOf(w) != push.CodeUnavailable {
		t.Errorf("answer = %d %s, want 503", w.Code, w.Body)
	}
	deliveryOf(t, hook("quiet", "d2", `{}`))
	r.store.Store = whole
	if w := hook("store", "d2", `{}`); w.Code != 202 {
		t.Errorf("answer = %d %s, want 202", w.Code, w.Body)
	}
	if _, ok := r.awaited()["store/d2/one"]; !ok {
		t.Error("the repeat put no callback")
	}
}

// TestParkedCallbacks: they are listed, replayed and discarded, by holders of a
// key alone.
func TestParkedCallbacks(t *testing.T) {
	r := newRig(t)
	ask := func(method, path, key string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(method, path, nil)
		if key != "" {
			req.Header.Set("X-API-Key", key)
		}
		return r.do(req)
	}
	park := func(id push.MessageID, at time.Duration) store.Callback {
		return store.Callback{Message: id, Source: "shop", State: store.CallbackParked, DueAt: start.Add(at), Attempts: 9,
			FailingSince: start.Add(-time.Hour), Reason: "the receiver answers 500", Until: start.Add(48 * time.Hour)}
	}
	if err := r.store.PutCallbacks(t.Context(), []store.Callback{park("shop/d/b", time.Second), park("shop/d/a", 0)}); err != nil {
		t.Fatal(err)
	}
	var list callbackList
	decode(t, ask("GET", "/v1/callbacks", "sesame"), &list)
	if len(list.Callbacks) != 2 || list.Next != "" || list.Callbacks[0] != (parkedCallback{"shop/d/a", "shop", "the receiver answers 500", 9, start.Add(-time.Hour), start}) {
		t.Fatalf("list = %+v", list)
	}
	var page callbackList
	decode(t, ask("GET", "/v1/callbacks?next="+encodeMark(parkedMark{start, "shop/d/a"}), "sesame"), &page)
	if len(page.Callbacks) != 1 || page.Callbacks[0].ID != "shop/d/b" {
		t.Errorf("the next page = %+v", page)
	}
	tests := []struct {
		name, method, path, key string
		status                  int
		code                    push.Code
	}{
		{"list without a key", "GET", "/v1/callbacks", "", 401, push.CodeUnauthorized},
		{"list behind nothing", "GET", "/v1/callbacks?next=x", "sesame", 400, push.CodeBadRequest},
		{"replay without a key", "POST", "/v1/callbacks/shop/d/a/replay", "", 401, push.CodeUnauthorized},
		{"something else", "POST", "/v1/callbacks/shop/d/a/again", "sesame", 404, push.CodeNotFound},
		{"replay of nothing", "POST", "/v1/callbacks/shop/d/x/replay", "sesame", 404, push.CodeNotFound},
		{"replay", "POST", "/v1/callbacks/shop/d/a/replay", "sesame", 204, ""},
		{"replay again", "POST", "/v1/callbacks/shop%2Fd%2Fa/replay", "sesame", 404, push.CodeNotFound},
		{"discard without a key", "DELETE", "/v1/callbacks/shop/d/b", "", 401, push.CodeUnauthorized},
		{"discard with a query", "DELETE", "/v1/callbacks/shop/d/b?all=1", "sesame", 400, push.CodeUnknownField},
		{"discard", "DELETE", "/v1/callbacks/shop/d/b", "sesame", 204, ""},
		{"discard again", "DELETE", "/v1/callbacks/shop/d/b", "sesame", 404, push.CodeNotFound},
	}
	for _, tt := range tests {
		if w := ask(tt.method, tt.path, tt.key); w.Code != tt.status || codeOf(w) != tt.code {
			t.Errorf("%s: answer = %d %s, want %d %s", tt.name, w.Code, w.Body, tt.status, tt.code)
		}
	}
	if found := r.awaited(); len(found) != 1 || found["shop/d/a"].Attempts != 0 {
		t.Errorf("awaited are %+v, want what was replayed", found)
	}
}

// TestSourceTellsItsCallback: a source over the API may have one, and tells all
// of it but its secrets.
func TestSourceTellsItsCallback(t *testing.T) {
	r := newRig(t)
	put := func(definition string) *httptest.ResponseRecorder {
		req := httptest.NewRequest("PUT", "/v1/sources/erp", strings.NewReader(definition))
		req.Header.Set("X-API-Key", "sesame")
		return r.do(req)
	}
	definition := `{"verify":"gitlab","secrets":["x"],"rules":[{"to":{"all":"true"}}],"callback":{"url":"https://erp.example/pushed","secrets":["a secret to sign callbacks with"]}}`
	var a sourceAnswer
	w := put(definition)
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != 200 {
		t.Fatalf("answer = %d %s", w.Code, w.Body)
	}
	if a.Callback == nil || a.Callback.URL != "https://erp.example/pushed" || len(a.Callback.Events) != 3 || strings.Contains(w.Body.String(), "a secret") {
		t.Errorf("answer = %s", w.Body)
	}
	if w := put(strings.Replace(definition, `["a secret to sign callbacks with"]`, `["env:HOME"]`, 1)); w.Code != 422 || !strings.Contains(w.Body.String(), "callback.secrets[0]") {
		t.Errorf("answer to a secret of this machine = %d %s, want 422", w.Code, w.Body)
	}
}
