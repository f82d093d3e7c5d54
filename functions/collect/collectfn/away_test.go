package collectfn

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
)

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
	for _, e := range out {
		if behind := r.now().Add(-4 * time.Minute); e.DueAt.After(behind) {
			t.Errorf("%s is due at %v: a sweep whose clock says %v would let it wait", e.Message, e.DueAt, behind)
		}
	}
	if ready := r.do(httptest.NewRequest("GET", "/readyz", nil)); ready.Code != 200 {
		t.Errorf("/readyz = %d while Dispatch is away, want 200", ready.Code)
	}
	// Told once, not for each request.
	r.post(`{"to":{"all":true},"data":1}`)
	r.set(func() { r.down, r.clock = false, r.clock.Add(breakTime) })
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !strings.Contains(r.logged.String(), "works again") && time.Since(began) < time.Minute; <-tick.C {
		r.post(`{"to":{"users":["42"]},"data":1}`)
	}
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
	r.set(func() { r.down, r.clock = false, r.clock.Add(breakTime) })
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

// Where the sources were never read, nobody is told that there is none: a sender
// may take that for good.
func TestSourcesAway(t *testing.T) {
	r := newRig(t)
	r.store.sourcesAway = true
	asks := map[string]*http.Request{
		"a webhook": httptest.NewRequest("POST", "/v1/webhooks/events", strings.NewReader("1")),
		"a source":  httptest.NewRequest("GET", "/v1/sources/events", nil),
		"a replay":  httptest.NewRequest("POST", "/v1/sources/events/replay", strings.NewReader("{}")),
	}
	for name, req := range asks {
		req.Header.Set("X-API-Key", "sesame")
		if w := r.do(req); codeOf(w) != push.CodeUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s is answered with %d %s, want 503 with Retry-After", name, w.Code, w.Body)
		}
	}
	r.store.sourcesAway = false
	r.later(10 * time.Second)
	if w := r.hook("events", "1"); codeOf(w) != push.CodeNotFound {
		t.Errorf("answer = %d %s, want 404 once the store has none", w.Code, w.Body)
	}
}
