package collectfn

import (
	"strings"
	"testing"

	"pushcluster/shared/push"
)

// TestHalfCharacters: a decoder puts U+FFFD where half a surrogate pair is
// escaped, so that two names become one. Nothing is sent to, or named, what its
// sender did not write; data goes as it came.
func TestHalfCharacters(t *testing.T) {
	tests := map[string]struct {
		path, body string
		status     int
		part       string
	}{
		"a user":                    {"/v1/messages", `{"to":{"users":["1","\ud800"]},"data":1}`, 422, "to.users holds half a character"},
		"a topic":                   {"/v1/messages", `{"to":{"channels":["a\uDC00"]},"data":1}`, 422, "to.channels holds half a character"},
		"an id":                     {"/v1/messages", `{"id":"\udfff","to":{"all":true},"data":1}`, 422, "id holds half a character"},
		"a collapse key":            {"/v1/messages", `{"collapse_key":"\ud83dx","to":{"all":true},"data":1}`, 422, "collapse_key holds half a character"},
		"twice, the last is good":   {"/v1/messages", `{"to":{"users":["\ud800"]},"to":{"channels":["a"]},"data":1}`, 422, "to.users holds half a character"},
		"of an array":               {"/v1/messages", `[{"to":{"users":["\ud800"]},"data":1},{"id":"good","to":{"all":true},"data":1}]`, 202, `"code":"invalid_message"},{"id":"shop/good"}]`},
		"both halves":               {"/v1/messages", `{"id":"pair","to":{"users":["\ud83d\ude00"]},"data":1}`, 202, "shop/pair"},
		"in data":                   {"/v1/messages", `{"id":"data","to":{"users":["1"]},"data":"\ud83d"}`, 202, "shop/data"},
		"U+FFFD itself":             {"/v1/messages", `{"id":"itself","to":{"users":["\ufffd"]},"data":1}`, 202, "shop/itself"},
		"a revocation":              {"/v1/revocations", `{"user":"\ud800"}`, 422, "half a character"},
		"a revoked token":           {"/v1/revocations", `{"jti":"\ud800"}`, 422, "half a character"},
		"a published channel":       {"/api/publish", `{"channel":"#\ud800","data":1}`, 400, "half a character"},
		"a broadcast":               {"/api/broadcast", `{"channels":["a","\ud800"],"data":1}`, 400, "half a character"},
		"an idempotency key":        {"/api/publish", `{"channel":"a","idempotency_key":"\ud800","data":1}`, 400, "half a character"},
		"a collapse key of a tag":   {"/api/publish", `{"channel":"a","tags":{"collapse_key":"\ud800"},"data":1}`, 400, "half a character"},
		"a line":                    {"/api", `{"method":"publish","params":{"channel":"\ud800","data":1}}`, 200, "half a character"},
		"who is to be disconnected": {"/api/disconnect", `{"user":"\ud800"}`, 400, "half a character"},
		"a subscription":            {"/api/subscribe", `{"user":"1","channel":"\ud800"}`, 400, "half a character"},
		"its end":                   {"/api/unsubscribe", `{"user":"\ud800","channel":"a"}`, 400, "half a character"},
		"a publication's data":      {"/api/publish", `{"channel":"a","data":"\ud800"}`, 200, `"result":{}`},
	}
	r := newRig(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if w := r.order("POST", tt.path, tt.body); w.Code != tt.status || !strings.Contains(w.Body.String(), tt.part) {
				t.Errorf("POST %s %s = %d %s, want %d with %s", tt.path, tt.body, w.Code, w.Body, tt.status, tt.part)
			}
		})
	}
	if m, ok := r.stored("shop/data"); !ok || string(m.Data) != `"\ud83d"` {
		t.Errorf("the data is kept as %s, want as it came", m.Data)
	}
}

// TestWebhookHalfCharacters: what a rule makes of such a name waits for somebody
// to look at it, and two deliveries stay two.
func TestWebhookHalfCharacters(t *testing.T) {
	const file = `
sources:
  shop2:
    verify: custom
    custom: { header: X-Token, algorithm: token, id: "body:id" }
    secrets: word
    rules: { name: r, to: { users: "[body.user]" }, data: body.text }
  batch:
    verify: gitlab
    secrets: word
    rules: { name: r, to: { users: "[body.user]" }, data: "1" }
`
	r := newRig(t)
	r.load(file)
	post := func(body string) deliveryAnswer {
		t.Helper()
		return deliveryOf(t, r.hook("shop2", body, "X-Token", "word"))
	}
	if a := post(`{"id":"1","user":"\ud800","text":1}`); a.Outcome != outcomeParked || len(a.Failed) != 1 || !strings.Contains(a.Failed[0].Reason, "to.users holds half a character") {
		t.Errorf("to half a user is %+v, want parked for that", a)
	}
	if w := r.order("POST", "/v1/sources/shop2/deliveries/1/replay", "{}"); w.Code != 202 || !strings.Contains(w.Body.String(), `"outcome":"parked"`) {
		t.Errorf("its replay = %d %s, want parked still", w.Code, w.Body)
	}
	if a := post(`{"id":"2","user":"42","text":"\ud800"}`); a.Outcome != outcomeAccepted {
		t.Errorf("with half a character of text is %+v, want accepted", a)
	}
	one, other := post(`{"id":"\ud800","user":"42","text":1}`), post(`{"id":"\ud801","user":"42","text":1}`)
	if one.Delivery == other.Delivery || len(one.Messages) != 1 || len(other.Messages) != 1 {
		t.Errorf("two ids of halves are %+v and %+v, want two deliveries", one, other)
	}
	event := func(id, user string) string {
		return `{"specversion":"1.0","id":"` + id + `","source":"/s","type":"t","user":"` + user + `"}`
	}
	hook := func(kind, body string) (int, string) {
		w := r.hook("batch", body, "X-Gitlab-Token", "word", "Content-Type", kind)
		return w.Code, w.Body.String()
	}
	if code, answer := hook(structuredKind, event(`\ud800`, "42")); code != 400 || !strings.Contains(answer, string(push.CodeBadRequest)) {
		t.Errorf("an event with half an id = %d %s, want 400", code, answer)
	}
	// As plain JSON it is no event to a scheme that signs no body: the header names it.
	for name, body := range map[string]string{"half an id": event(`\ud800`, "42"), "no event": `{"specversion":"1.0","source":"\ud800","user":"42"}`} {
		w := r.hook("batch", body, "X-Gitlab-Token", "word", "Content-Type", "application/json", "Idempotency-Key", name)
		if w.Code != 202 || deliveryOf(t, w).Delivery != name {
			t.Errorf("plain JSON with %s = %d %s, want it accepted under the id of its header", name, w.Code, w.Body)
		}
	}
	code, answer := hook(batchKind, "["+event("1", `\ud800`)+","+event("2", "42")+"]")
	if code != 202 || strings.Count(answer, `"outcome":"parked"`) != 1 || strings.Count(answer, `"outcome":"accepted"`) != 1 {
		t.Fatalf("a batch with half a user = %d %s, want one parked, one accepted", code, answer)
	}
	if w := r.order("POST", "/v1/sources/batch/replay", `{"from":"2030-01-01T00:00:00Z","to":"2031-01-01T00:00:00Z","outcome":"parked"}`); w.Code != 200 || !strings.Contains(w.Body.String(), `"results":{"parked":1}`) {
		t.Errorf("the replay of the parked = %d %s, want parked still", w.Code, w.Body)
	}
}
