package collectfn

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"pushcluster/functions/collect/rule"
	"pushcluster/shared/push"
)

// delivered asks for one kept delivery.
func (r *rig) delivered(source, id string) (a wholeDelivery) {
	r.t.Helper()
	decode(r.t, r.order("GET", "/v1/sources/"+source+"/deliveries/"+id, ""), &a)
	return a
}

// deliveries lists what is kept of a source.
func (r *rig) deliveries(source, query string) (list deliveryList) {
	r.t.Helper()
	decode(r.t, r.order("GET", "/v1/sources/"+source+"/deliveries"+query, ""), &list)
	return list
}

// String returns the ids and outcomes of a list.
func (list *deliveryList) String() string {
	var texts []string
	for _, d := range list.Deliveries {
		texts = append(texts, d.ID+" "+d.Outcome)
	}
	return strings.Join(texts, ", ")
}

func TestDeliveryIsKept(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	deliveryOf(t, r.hook("github?tenant=a&api_token=hidden2", opened, "Content-Type", "application/json", "X-GitHub-Delivery", "d-1",
		"X-GitHub-Event", "pull_request", "Authorization", "Bearer hidden", "Cookie", "hidden", "X-Other-Token", "hidden",
		"X-Hub-Signature", "sha1=hidden", "X-Hub-Signature-256", githubSignature("github secret", opened)))
	w := r.order("GET", "/v1/sources/github/deliveries/d-1", "")
	var a wholeDelivery
	decode(t, w, &a)
	if a.ID != "d-1" || a.Outcome != "accepted" || !a.ReceivedAt.Equal(start) || a.Receipts != 1 || a.Replays != 0 || !a.LastAt.IsZero() ||
		!a.ExpiresAt.Equal(start.Add(7*24*time.Hour)) || a.Remote != "192.0.2.1" || !a.Verified || a.Size != len(opened) || !a.Replayable || a.Refusal != nil {
		t.Errorf("kept is %s", w.Body)
	}
	if string(a.Body) != opened || a.BodyText != "" || a.SHA256 != "" {
		t.Errorf("the body is kept as %s", w.Body)
	}
	if a.Headers["x-github-event"] != "pull_request" || a.Headers["content-type"] != "application/json" || len(a.Headers) != 3 ||
		!slices.Equal(a.Hidden, []string{"authorization", "cookie", "x-hub-signature", "x-hub-signature-256", "x-other-token"}) {
		t.Errorf("headers are %v, without %v", a.Headers, a.Hidden)
	}
	if a.Query["tenant"] != "a" || a.Query["api_token"] != "(hidden)" {
		t.Errorf("the query is %v", a.Query)
	}
	want := []ruleResult{
		{Rule: "review", Result: "made", Message: "github/d-1/review", Recipients: 2},
		{Rule: "watch", Result: "made", Message: "github/d-1/watch", Recipients: 1},
		{Rule: "broken", Result: "no_match"},
	}
	if !slices.Equal(a.Rules, want) || len(a.Messages) != 2 || len(a.Failed) != 0 {
		t.Errorf("rules came to %+v, want %+v", a.Rules, want)
	}
	if strings.Contains(w.Body.String(), "hidden\"") || strings.Contains(w.Body.String(), "hidden2") || strings.Contains(r.logged.String(), "hidden") {
		t.Errorf("a secret is shown: %s", w.Body)
	}
	// It comes again, and nothing of it changes.
	r.later(time.Minute)
	if w := r.github("d-1", "github secret", opened); w.Header().Get("Idempotent-Replayed") != "true" {
		t.Errorf("the repeat is answered %d %s", w.Code, w.Body)
	}
	if a := r.delivered("github", "d-1"); a.Receipts != 2 || !a.LastAt.Equal(start.Add(time.Minute)) || !a.ReceivedAt.Equal(start) || a.Outcome != "accepted" {
		t.Errorf("after a repeat it is %+v", a)
	}
}

// TestDeliveryOutcomes posts every kind of delivery and looks at what is kept.
func TestDeliveryOutcomes(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	event := func(id, subject string) string {
		return `{"specversion":"1.0","id":"` + id + `","source":"/s","type":"t","subject":` + subject + `}`
	}
	kind := func(name string) []string {
		return []string{"X-Gitlab-Token", "events token", "Content-Type", "application/cloudevents" + name + "+json"}
	}
	big := `{"action":"opened","x":"` + strings.Repeat("x", maxKeptBody) + `"}`
	tests := map[string]struct {
		post   func() *httptest.ResponseRecorder
		status int
		source string
		want   string // outcomes
		check  func(a wholeDelivery) bool
	}{
		"no rule matches": {func() *httptest.ResponseRecorder { return r.github("a", "github secret", `{"action":"closed"}`) }, 202, "github", "a no_rule_matched",
			func(a wholeDelivery) bool {
				return len(a.Rules) == 3 && a.Rules[0].Result == "no_match" && a.Replayable
			}},
		"a text": {func() *httptest.ResponseRecorder {
			return r.hook("plain", "hello", "X-Gitlab-Token", "plain token", "Idempotency-Key", "b")
		}, 202, "plain", "b accepted", func(a wholeDelivery) bool { return a.BodyText == "hello" && a.Body == nil }},
		"parked": {func() *httptest.ResponseRecorder { return r.github("c", "github secret", `{"action":"broken"}`) }, 202, "github", "c parked",
			func(a wholeDelivery) bool {
				return len(a.Failed) == 1 && a.Failed[0].Field == "to.users" && a.Failed[0].Kind == "missing" && a.Failed[0].Rule == "broken" && a.Replayable
			}},
		"too large to be kept": {func() *httptest.ResponseRecorder { return r.github("d", "github secret", big) }, 202, "github", "d accepted",
			func(a wholeDelivery) bool {
				return a.Body == nil && a.Headers == nil && len(a.SHA256) == 64 && a.Size == len(big) && !a.Replayable
			}},
		"too large to be parked": {func() *httptest.ResponseRecorder {
			return r.github("e", "github secret", strings.Replace(big, "opened", "broken", 1))
		}, 422, "github", "e refused", func(a wholeDelivery) bool { return len(a.Failed) == 1 && !a.Replayable }},
		"unsigned": {func() *httptest.ResponseRecorder { return r.hook("github", opened, "X-Other", "y") }, 401, "github", "refused-NN refused",
			func(a wholeDelivery) bool {
				return a.Refusal.Code == push.CodeSignatureMissing && a.Body == nil && a.Size == len(opened) && a.Headers["x-other"] == "y" && !a.Replayable
			}},
		"signed wrongly": {func() *httptest.ResponseRecorder { return r.github("f", "another", opened) }, 401, "github", "refused-NN refused",
			func(a wholeDelivery) bool { return a.Refusal.Code == push.CodeSignatureInvalid && !a.Verified }},
		"no JSON": {func() *httptest.ResponseRecorder { return r.github("g", "github secret", `{`) }, 400, "github", "refused-NN refused",
			func(a wholeDelivery) bool {
				return a.Refusal.Code == push.CodeBadJSON && a.Refusal.Detail != "" && a.Verified
			}},
		"over the limit": {func() *httptest.ResponseRecorder {
			return r.github("h", "github secret", strings.Repeat("x", MaxBody+1))
		}, 413, "github", "refused-NN refused", func(a wholeDelivery) bool { return a.Refusal.Code == push.CodeBodyTooLarge && a.SHA256 == "" }},
		"one event": {func() *httptest.ResponseRecorder { return r.hook("events", event("0", `"42"`), kind("")...) }, 202, "events", "accepted",
			func(a wholeDelivery) bool { return strings.Contains(string(a.Body), `"specversion"`) }},
		"a batch": {func() *httptest.ResponseRecorder {
			return r.hook("events", "["+event("1", `"42"`)+","+event("2", "7")+","+event("3", `"9007199254740993"`)+"]", kind("-batch")...)
		}, 202, "events", "accepted, accepted, parked", func(a wholeDelivery) bool {
			return a.Replayable && strings.HasPrefix(string(a.Body), `{"id":"`) && strings.Count(string(a.Body), "subject") == 1
		}},
		"a batch with one too large to be parked": {func() *httptest.ResponseRecorder {
			large := strings.Replace(event("7", "7"), `"type"`, `"x":"`+strings.Repeat("x", maxKeptBody)+`","type"`, 1)
			return r.hook("events", "["+event("4", `"42"`)+","+event("5", "7")+","+large+"]", kind("-batch")...)
		}, 422, "events", "accepted, parked, refused", nil},
		"nothing is kept": {func() *httptest.ResponseRecorder { return r.hook("forgets", "{}", "X-Gitlab-Token", "a token") }, 422, "forgets", "", nil},
		"nor refused":     {func() *httptest.ResponseRecorder { return r.hook("forgets", "{}") }, 401, "forgets", "", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r.later(time.Hour)
			if w := tt.post(); w.Code != tt.status {
				t.Fatalf("answer = %d %s, want %d", w.Code, w.Body, tt.status)
			}
			list := r.deliveries(tt.source, "")
			list.Deliveries = slices.DeleteFunc(list.Deliveries, func(d keptDelivery) bool { return d.ReceivedAt.Before(r.now()) })
			got := list.String()
			for _, d := range list.Deliveries {
				if d.Refusal != nil {
					got = strings.Replace(got, d.ID, "refused-NN", 1)
				}
			}
			if tt.source == "events" { // whose ids are hashes: see cloudEvent
				var outcomes []string
				for _, d := range list.Deliveries {
					outcomes = append(outcomes, d.Outcome)
				}
				slices.Sort(outcomes)
				got = strings.Join(outcomes, ", ")
			}
			if got != tt.want {
				t.Fatalf("kept are %q, want %q", got, tt.want)
			}
			if tt.check != nil && !tt.check(r.delivered(tt.source, list.Deliveries[0].ID)) {
				t.Errorf("kept is %s", r.order("GET", "/v1/sources/"+tt.source+"/deliveries/"+list.Deliveries[0].ID, "").Body)
			}
		})
	}
}

func TestChallengeIsKept(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	body := `{"type":"url_verification","token":"hidden","challenge":"c"}`
	stamp := fmt.Sprint(start.Unix())
	if w := r.hook("chat", body, "X-Slack-Request-Timestamp", stamp, "X-Slack-Signature", slackSignature("chat secret", stamp, body)); w.Code != 200 {
		t.Fatalf("answer = %d %s", w.Code, w.Body)
	}
	list := r.deliveries("chat", "?outcome=challenge")
	if len(list.Deliveries) != 1 || list.Deliveries[0].Outcome != "challenge" || list.Deliveries[0].Replayable {
		t.Fatalf("kept is %+v", list)
	}
	if w := r.order("GET", "/v1/sources/chat/deliveries/"+list.Deliveries[0].ID, ""); strings.Contains(w.Body.String(), "hidden\"") {
		t.Errorf("kept is %s", w.Body)
	}
}

// TestRefusedAreBounded: whoever has no secret fills neither the store nor what
// is kept of others.
func TestRefusedAreBounded(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	deliveryOf(t, r.github("good", "github secret", opened))
	r.later(time.Second)
	for range 50 {
		r.hook("github", opened)
	}
	if list := r.deliveries("github", "?outcome=refused"); len(list.Deliveries) != 1 {
		t.Errorf("of 50 within a second %d are kept, want 1", len(list.Deliveries))
	}
	for range 3 * refusedSlots {
		r.later(time.Second)
		r.hook("github", opened)
	}
	list := r.deliveries("github", "?limit=200")
	if len(list.Deliveries) != refusedSlots+1 || list.Deliveries[refusedSlots].ID != "good" {
		t.Errorf("kept are %s, want %d refused ones and good", list.String(), refusedSlots)
	}
	if newest := list.Deliveries[0]; !newest.ReceivedAt.Equal(r.now()) || newest.Receipts != 0 {
		t.Errorf("the newest is %+v, want the last that came", newest)
	}
}

func TestListDeliveries(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	for i := range 7 {
		body := opened
		if i%2 == 1 {
			body = `{"action":"closed"}`
		}
		deliveryOf(t, r.github(fmt.Sprint("d", i), "github secret", body))
		r.later(time.Second)
	}
	var got []string
	next := ""
	for range 5 {
		query := "?limit=3"
		if next != "" {
			query += "&before=" + next
		}
		list := r.deliveries("github", query)
		for _, d := range list.Deliveries {
			got = append(got, d.ID)
		}
		if next = list.Next; next == "" {
			break
		}
	}
	if want := "[d6 d5 d4 d3 d2 d1 d0]"; fmt.Sprint(got) != want {
		t.Errorf("in pages %v, want %s", got, want)
	}
	tests := map[string]struct {
		query string
		want  string
	}{
		"of an outcome":      {"?outcome=no_rule_matched", "d5 no_rule_matched, d3 no_rule_matched, d1 no_rule_matched"},
		"before a time":      {"?before=2030-01-31T09:30:02Z", "d1 no_rule_matched, d0 accepted"},
		"both":               {"?outcome=accepted&before=2030-01-31T10:30:02.5%2B01:00&limit=1", "d2 accepted"},
		"none":               {"?outcome=parked", ""},
		"exactly the last":   {"?limit=7", "d6 accepted, d5 no_rule_matched, d4 accepted, d3 no_rule_matched, d2 accepted, d1 no_rule_matched, d0 accepted"},
		"of another outcome": {"?outcome=nobody", ""},
	}
	for name, tt := range tests {
		list := r.deliveries("github", tt.query)
		if list.String() != tt.want {
			t.Errorf("%s: %s, want %s", name, list.String(), tt.want)
		}
		if name == "exactly the last" && list.Next != "" {
			t.Errorf("%s: there is a next page", name)
		}
	}
}

func TestDeliveriesRefused(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	deliveryOf(t, r.github("d", "github secret", opened))
	r.github("x", "another", opened)
	refused := r.deliveries("github", "?outcome=refused").Deliveries[0].ID
	const base = "/v1/sources/github"
	tests := map[string]struct {
		method, path, body string
		status             int
		code               push.Code
		detail             string
	}{
		"outcome":            {"GET", base + "/deliveries?outcome=sent", "", 422, push.CodeInvalidValue, "there are accepted, no_rule_matched"},
		"limit":              {"GET", base + "/deliveries?limit=201", "", 400, push.CodeBadRequest, "from 1 to 200"},
		"before":             {"GET", base + "/deliveries?before=yesterday", "", 400, push.CodeBadRequest, "before must be"},
		"parameter":          {"GET", base + "/deliveries?after=1", "", 400, push.CodeUnknownField, "after"},
		"no such source":     {"GET", "/v1/sources/a%20b/deliveries", "", 404, push.CodeNotFound, ""},
		"no source, nothing": {"GET", "/v1/sources/gone/deliveries", "", 404, push.CodeNotFound, ""},
		"no such delivery":   {"GET", base + "/deliveries/gone", "", 404, push.CodeNotFound, "gone"},
		"of another source":  {"GET", "/v1/sources/plain/deliveries/d", "", 404, push.CodeNotFound, ""},
		"replay nothing":     {"POST", base + "/deliveries/gone/replay", "", 404, push.CodeNotFound, ""},
		"no replay":          {"POST", base + "/deliveries/d", "", 404, push.CodeNotFound, "/replay"},
		"replay refused":     {"POST", base + "/deliveries/" + refused + "/replay", "", 409, push.CodeConflict, "refused"},
		"replay no source":   {"POST", "/v1/sources/gone/deliveries/d/replay", "", 404, push.CodeNotFound, "no source"},
		"replay oddly":       {"POST", base + "/deliveries/d/replay", `{"force":true}`, 400, push.CodeUnknownField, "force"},
		"range, nothing":     {"POST", base + "/replay", "", 422, push.CodeInvalidValue, "from is missing"},
		"range, backwards":   {"POST", base + "/replay", `{"from":"2030-01-31T09:30:00Z","to":"2030-01-31T09:30:00Z"}`, 422, push.CodeInvalidValue, "not later"},
		"range, the future":  {"POST", base + "/replay", `{"from":"2031-01-31T09:30:00Z"}`, 422, push.CodeInvalidValue, "not later"},
		"range, limit":       {"POST", base + "/replay", `{"from":"2030-01-31T09:00:00Z","limit":10001}`, 422, push.CodeInvalidValue, "10000"},
		"range, outcome":     {"POST", base + "/replay", `{"from":"2030-01-31T09:00:00Z","outcome":"x"}`, 422, push.CodeInvalidValue, "no outcome"},
		"range, next":        {"POST", base + "/replay", `{"next":"x"}`, 422, push.CodeInvalidValue, "next"},
		"range, no time":     {"POST", base + "/replay", `{"from":"today"}`, 400, push.CodeBadJSON, ""},
		"dry, no rules":      {"POST", base + "/dry-run", `{"from":"2030-01-31T09:00:00Z"}`, 422, push.CodeInvalidValue, "rules are missing"},
		"dry, wrong rules":   {"POST", base + "/dry-run", `{"from":"2030-01-31T09:00:00Z","rules":[{"to":{"all":"1"}}]}`, 422, push.CodeInvalidValue, "rules[0].to.all: gives int"},
		"dry, wrong YAML":    {"POST", base + "/dry-run", `{"from":"2030-01-31T09:00:00Z","rules":"- to:\n    all: 1\n"}`, 422, push.CodeInvalidValue, "line 2, column 10"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if w := r.order(tt.method, tt.path, tt.body); w.Code != tt.status || codeOf(w) != tt.code || !strings.Contains(w.Body.String(), tt.detail) {
				t.Errorf("%s %s = %d %s, want %d %s with %q", tt.method, tt.path, w.Code, w.Body, tt.status, tt.code, tt.detail)
			}
			if w := r.do(httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))); w.Code != 401 && tt.path != base+"/deliveries/d" {
				t.Errorf("%s %s without a key = %d, want 401", tt.method, tt.path, w.Code)
			}
		})
	}
}

// TestDeliveryCannotBeKept: what is answered 2xx is kept.
func TestDeliveryCannotBeKept(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	r.store.deliveriesAway = true
	for _, body := range []string{opened, `{"action":"closed"}`, `{"action":"broken"}`} {
		if w := r.github("d", "github secret", body); w.Code != 503 || w.Header().Get("Retry-After") == "" {
			t.Errorf("answer to %s = %d %s, want 503", body, w.Code, w.Body)
		}
	}
	if w := r.github("x", "another", opened); w.Code != 401 {
		t.Errorf("answer to a bad signature = %d %s, want 401 all the same", w.Code, w.Body)
	}
	r.store.deliveriesAway = false
	if w := r.github("d", "github secret", opened); w.Code != 202 || w.Header().Get("Idempotent-Replayed") != "true" {
		t.Errorf("the repeat = %d %s, want 202 as a repeat", w.Code, w.Body)
	}
	if a := r.delivered("github", "d"); a.Outcome != "accepted" || len(a.Messages) != 2 {
		t.Errorf("kept is %+v", a)
	}
}

// TestRuleOutOfTime: what a busy machine did not manage is parked, and asked for
// again.
func TestRuleOutOfTime(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	src, _ := r.hooks.set.Source(t.Context(), "github")
	req := httptest.NewRequest("POST", "/v1/webhooks/github", nil)
	d := &delivery{source: src, in: rule.Input{Headers: map[string]string{"x-github-delivery": "d"}, ReceivedAt: start}}
	m := mapped{event: event{id: "d"}}
	m.fail("review", ruleFailure{Field: "when", Kind: string(rule.KindTime), Reason: "it takes longer"}, push.NewProblem(push.CodeRuleFailed, "review"))
	w := httptest.NewRecorder()
	r.collect.settle(w, req, d, []mapped{m}, r.collect.newReceived(req, []byte(opened), false, d, nil))
	if w.Code != 503 || codeOf(w) != push.CodeUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("answer = %d %s, want 503", w.Code, w.Body)
	}
	if kept := r.delivered("github", "d"); kept.Outcome != "parked" || kept.Failed[0].Kind != "time" {
		t.Errorf("kept is %+v", kept)
	}
	deliveryOf(t, r.github("d", "github secret", opened))
	if kept := r.delivered("github", "d"); kept.Outcome != "accepted" || kept.Receipts != 2 {
		t.Errorf("after its repeat it is %+v", kept)
	}
}

// TestWebhookSenderHangsUp: what came whole is taken, whoever waits for the answer.
func TestWebhookSenderHangsUp(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := httptest.NewRequest("POST", "/v1/webhooks/github", strings.NewReader(opened)).WithContext(ctx)
	req.Header.Set("X-GitHub-Delivery", "d")
	req.Header.Set("X-GitHub-Event", "pull_request")
	req.Header.Set("X-Hub-Signature-256", githubSignature("github secret", opened))
	r.do(req)
	if kept := r.delivered("github", "d"); kept.Outcome != "accepted" || len(kept.Messages) != 2 {
		t.Errorf("kept is %+v", kept)
	}
}

// TestDeliveriesAreTrimmed: by chance the oldest go.
func TestDeliveriesAreTrimmed(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	for i := range 3 {
		deliveryOf(t, r.github(fmt.Sprint("d", i), "github secret", opened))
		r.later(time.Second)
	}
	r.collect.trim(t.Context(), "github")
	if list := r.deliveries("github", ""); len(list.Deliveries) != 3 {
		t.Errorf("kept are %s, want all three: they are within the bounds", list.String())
	}
	r.set(func() { r.chance = 0 })
	trimmed := &trimmingStore{faultyStore: r.store}
	r.collect.store = trimmed
	deliveryOf(t, r.github("d3", "github secret", opened))
	if list := r.deliveries("github", ""); list.String() != "d3 accepted, d2 accepted" {
		t.Errorf("kept are %s, want the newest two", list.String())
	}
}
