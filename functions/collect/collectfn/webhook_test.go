package collectfn

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"pushcluster/functions/collect/rule"
	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// hooks are the sources of a rig: those of a file, if one was loaded, else those
// of the store.
type hooks struct {
	*source.Live
	compiler *rule.Compiler
	set      *source.Set
}

func (s *hooks) Set(ctx context.Context) *source.Set {
	if s.set != nil {
		return s.set
	}
	return s.Live.Set(ctx)
}

func (s *hooks) InFile(ctx context.Context, name string) bool {
	_, err := s.set.Source(ctx, name)
	return err == nil
}

func asIs(_ context.Context, value string) (string, error) { return value, nil }

const sourcesFile = `
sources:
  github:
    verify: github
    secrets: [github secret, the one before]
    rules:
      - name: review
        when: body.action == "opened" && has(body.pull_request)
        to: { users: "body.pull_request.requested_reviewers.map(r, string(r.id))" }
        event: '"review.requested"'
        data: '{"title": body.pull_request.title, "url": body.pull_request.html_url}'
        ttl: 48h
        collapse_key: '"pr-" + string(body.pull_request.id)'
      - name: watch
        when: body.action == "opened"
        to: { channels: '["repo:" + body.?repository.?full_name.orValue("none")]' }
        data: '{"event": headers["x-github-event"], "tenant": query.?tenant.orValue("-"), "secrets": headers.filter(k, k.contains("signature") || k == "authorization")}'
      - name: broken
        when: body.action == "broken"
        to: { users: body.nobody.id }
  chat:
    verify: slack
    secrets: chat secret
    rules: { to: { users: "body.event.user" } }
  plain:
    verify: gitlab
    secrets: plain token
    rules: { to: { users: "dyn(body).?user", channels: "source", all: "dyn(body) == 'all'" } }
  forgets:
    verify: gitlab
    secrets: a token
    retain: 0
    rules: { name: broken, to: { users: body.nobody.id } }
  events:
    verify: gitlab
    secrets: events token
    rules:
      - name: r
        to: { users: body.subject }
        event: body.type
        data: body
`

// load gives the rig the sources of file.
func (r *rig) load(file string) {
	r.t.Helper()
	set, err := source.Parse(r.t.Context(), []byte(file), r.hooks.compiler, asIs)
	if err != nil {
		r.t.Fatal(err)
	}
	r.hooks.set = set
}

// hook posts a webhook; headers are pairs, an empty value takes one away.
func (r *rig) hook(path, body string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest("POST", "/v1/webhooks/"+path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return r.do(req)
}

// github signs as GitHub does.
func (r *rig) github(delivery, secret, body string, headers ...string) *httptest.ResponseRecorder {
	return r.hook("github", body, append([]string{"Content-Type", "application/json", "X-GitHub-Delivery", delivery,
		"X-GitHub-Event", "pull_request", "Authorization", "Bearer hidden",
		"X-Hub-Signature-256", githubSignature(secret, body)}, headers...)...)
}

func githubSignature(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

func deliveryOf(t testing.TB, w *httptest.ResponseRecorder) deliveryAnswer {
	t.Helper()
	var a deliveryAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != 202 {
		t.Fatalf("answer = %d %s, want 202 with a delivery", w.Code, w.Body)
	}
	return a
}

const opened = `{"action":"opened","repository":{"full_name":"a/b"},"pull_request":{"id":9007199254740993,"title":"T","html_url":"https://example.com/1","requested_reviewers":[{"id":42},{"id":7}]}}`

func TestWebhookBecomesMessages(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	a := deliveryOf(t, r.github("d-1", "github secret", opened))
	if a.Delivery != "d-1" || a.Outcome != "accepted" || len(a.Messages) != 2 ||
		a.Messages[0].ID != "github/d-1/review" || a.Messages[1].ID != "github/d-1/watch" {
		t.Fatalf("answer = %+v", a)
	}
	requests := r.asked()
	if len(requests) != 1 || requests[0].Again || len(requests[0].Messages) != 2 {
		t.Fatalf("Dispatch was asked %+v", requests)
	}
	review, watch := requests[0].Messages[0], requests[0].Messages[1]
	if !slices.Equal(review.To.Users, []push.UserID{"42", "7"}) || review.Event != "review.requested" ||
		string(review.Data) != `{"title":"T","url":"https://example.com/1"}` || review.CollapseKey != "pr-9007199254740993" ||
		review.ExpiresAt.Sub(review.CreatedAt).Hours() != 48 {
		t.Errorf("review = %+v %s", review, review.Data)
	}
	if !slices.Equal(watch.To.Channels, []push.Channel{"repo:a/b"}) || string(watch.Data) != `{"event":"pull_request","secrets":[],"tenant":"-"}` {
		t.Errorf("watch = %+v %s", watch, watch.Data)
	}
	if _, ok := r.stored("github/d-1/review"); !ok {
		t.Error("the message is not stored")
	}
}

// TestWebhookRepeats: a delivery that comes again gets the first answer and
// changes nothing, also when rules or the body have changed in between.
func TestWebhookRepeats(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	first := r.github("d-1", "github secret", opened)
	r.handedOff()
	changed := strings.Replace(opened, `"T"`, `"Another"`, 1)
	tests := []struct {
		name string
		file string
		body string
	}{
		{"the same", sourcesFile, opened},
		{"another body", sourcesFile, changed},
		{"another rule", strings.Replace(sourcesFile, `"review.requested"`, `"another"`, 1), opened},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r.load(tt.file)
			again := r.github("d-1", "the one before", tt.body)
			if again.Body.String() != first.Body.String() || again.Code != first.Code || again.Header().Get(headerReplayed) != "true" {
				t.Errorf("answer = %d %s (%s), want the first: %d %s", again.Code, again.Body, again.Header(), first.Code, first.Body)
			}
			// It is handed off again, for its first try may have died on the way: as
			// it was kept, to be recognized as the same.
			for _, req := range r.asked() {
				if !req.Again {
					t.Error("a repeat is handed off as if it were new")
				}
				for _, m := range req.Messages {
					kept, _ := r.stored(m.ID)
					if string(m.Data) != string(kept.Data) || m.Event != kept.Event || !m.CreatedAt.Equal(kept.CreatedAt) {
						t.Errorf("handed off %+v, but kept is %+v", m, kept.Message)
					}
				}
			}
		})
	}
	if kept, _ := r.stored("github/d-1/review"); string(kept.Data) != `{"title":"T","url":"https://example.com/1"}` || kept.Event != "review.requested" {
		t.Errorf("kept is %+v", kept.Message)
	}
}

func TestWebhookOutcomes(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	signed := func(delivery, body string) func() *httptest.ResponseRecorder {
		return func() *httptest.ResponseRecorder { return r.github(delivery, "github secret", body) }
	}
	plain := func(kind, body string) func() *httptest.ResponseRecorder {
		return func() *httptest.ResponseRecorder {
			return r.hook("plain", body, "X-Gitlab-Token", "plain token", "Content-Type", kind)
		}
	}
	tests := map[string]struct {
		post    func() *httptest.ResponseRecorder
		outcome string
		ids     string // of the messages
	}{
		"no rule":           {signed("n", `{"action":"closed"}`), "no_rule_matched", ""},
		"nobody":            {signed("e", `{"action":"opened","pull_request":{"id":1,"title":"","html_url":"","requested_reviewers":[]}}`), "accepted", "github/e/watch"},
		"JSON by its looks": {plain("", `{"user":"42"}`), "accepted", "HASH/0"},
		"a form":            {plain("application/x-www-form-urlencoded", "user=42&x=1&x=2"), "accepted", "HASH/0"},
		"JSON of curl -d":   {plain("application/x-www-form-urlencoded", `{"user":null}`), "accepted", "HASH/0"},
		"a text":            {plain("text/plain", "hello \xff"), "accepted", "HASH/0"},
		"JSON of a type":    {plain("application/vnd.x+json; charset=utf-8", `{"user":"1"}`), "accepted", "HASH/0"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := deliveryOf(t, tt.post())
			var ids []string
			for _, m := range a.Messages {
				ids = append(ids, strings.Replace(string(m.ID), "plain/"+a.Delivery, "HASH", 1))
			}
			if a.Outcome != tt.outcome || strings.Join(ids, ",") != tt.ids {
				t.Errorf("answer = %+v, want %s with %s", a, tt.outcome, tt.ids)
			}
		})
	}
}

func TestWebhookRefusals(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	tests := map[string]struct {
		post   func() *httptest.ResponseRecorder
		status int
		code   push.Code
		detail string
	}{
		"unknown source": {func() *httptest.ResponseRecorder { return r.hook("gitbub", "{}") }, 404, push.CodeNotFound, ""},
		"unsigned": {func() *httptest.ResponseRecorder {
			return r.github("x", "github secret", opened, "X-Hub-Signature-256", "")
		},
			401, push.CodeSignatureMissing, ""},
		"retired secret": {func() *httptest.ResponseRecorder { return r.github("x", "a secret of long ago", opened) }, 401, push.CodeSignatureInvalid, ""},
		"too large": {func() *httptest.ResponseRecorder {
			return r.github("x", "github secret", `{"a":"`+strings.Repeat("x", MaxBody)+`"}`)
		}, 413, push.CodeBodyTooLarge, ""},
		"not JSON":   {func() *httptest.ResponseRecorder { return r.github("x", "github secret", `{"a":`) }, 400, push.CodeBadJSON, "ends too early"},
		"two values": {func() *httptest.ResponseRecorder { return r.github("x", "github secret", `{} {}`) }, 400, push.CodeBadJSON, "follows"},
		"a bad form": {func() *httptest.ResponseRecorder {
			return r.hook("plain", "a=%zz", "X-Gitlab-Token", "plain token", "Content-Type", "application/x-www-form-urlencoded")
		}, 400, push.CodeBadRequest, "form"},
		"rule fails, nothing is kept": {func() *httptest.ResponseRecorder {
			return r.hook("forgets", `{"action":"broken"}`, "X-Gitlab-Token", "a token")
		}, 422, push.CodeRuleFailed, `rule "broken", to.users: the body has no nobody`},
		"wrong method": {func() *httptest.ResponseRecorder { return r.do(httptest.NewRequest("GET", "/v1/webhooks/github", nil)) }, 405, push.CodeMethodNotAllowed, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := tt.post()
			if w.Code != tt.status || codeOf(w) != tt.code || !strings.Contains(w.Body.String(), strings.ReplaceAll(tt.detail, `"`, `\"`)) {
				t.Errorf("answer = %d %s, want %d %s with %q", w.Code, w.Body, tt.status, tt.code, tt.detail)
			}
			if ids, _ := r.handedOff(); len(ids) > 0 {
				t.Errorf("%q were handed off", ids)
			}
		})
	}
	if logged := r.logged.String(); strings.Contains(logged, "secret") || strings.Contains(logged, "token") {
		t.Errorf("the log tells a secret: %s", logged)
	}
}

// TestWebhookOneRuleFails: what the other rules make is sent, and the delivery is
// parked; it may come again once the rule is repaired.
func TestWebhookOneRuleFails(t *testing.T) {
	r := newRig(t)
	broken := strings.Replace(sourcesFile, `when: body.action == "broken"`, `when: body.action == "opened"`, 1)
	r.load(broken)
	first := deliveryOf(t, r.github("d", "github secret", opened))
	if first.Outcome != "parked" || len(first.Messages) != 2 || len(first.Failed) != 1 || first.Failed[0].Rule != "broken" ||
		first.Failed[0].Field != "to.users" || !strings.HasPrefix(first.Failed[0].Reason, "the body has no nobody") {
		t.Fatalf("answer = %+v, want it parked for the rule broken", first)
	}
	if ids, _ := r.handedOff(); len(ids) != 2 {
		t.Errorf("handed off %q, want what the other two rules made", ids)
	}
	r.load(strings.Replace(broken, "body.nobody.id", "body.?nobody.?id.orValue('9')", 1))
	a := deliveryOf(t, r.github("d", "github secret", opened))
	if len(a.Messages) != 3 {
		t.Errorf("answer = %+v, want three messages", a)
	}
}

// TestWebhookStoreAway: nothing is promised that was not kept.
func TestWebhookStoreAway(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	r.set(func() { r.down = true })
	r.store.outboxAway = true
	if w := r.github("d", "github secret", opened); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("answer = %d %s, want 503", w.Code, w.Body)
	}
	r.store.outboxAway = false
	deliveryOf(t, r.github("d", "github secret", opened))
	if entries := r.outbox(); len(entries) != 2 {
		t.Errorf("the outbox has %d entries, want 2", len(entries))
	}
	var gone error = r.store.Close()
	if w := r.github("e", "github secret", opened); w.Code != 503 || codeOf(w) != push.CodeUnavailable {
		t.Errorf("answer = %d %s, want 503 (%v)", w.Code, w.Body, errors.Join(gone, store.ErrUnavailable))
	}
}

func TestSlackChallenge(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	body := `{"type":"url_verification","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}`
	stamp := fmt.Sprint(start.Unix())
	mac := hmac.New(sha256.New, []byte("chat secret"))
	mac.Write([]byte("v0:" + stamp + ":" + body))
	signature := "v0=" + hex.EncodeToString(mac.Sum(nil))
	w := r.hook("chat", body, "X-Slack-Request-Timestamp", stamp, "X-Slack-Signature", signature)
	if w.Code != 200 || w.Body.String() != "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P" {
		t.Errorf("answer = %d %s, want the challenge", w.Code, w.Body)
	}
	if w := r.hook("chat", body, "X-Slack-Request-Timestamp", stamp, "X-Slack-Signature", "v0=00"); w.Code != 401 {
		t.Errorf("answer to an unsigned challenge = %d %s, want 401", w.Code, w.Body)
	}
}

func TestCloudEvents(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	token := []string{"X-Gitlab-Token", "events token"}
	binary := []string{"ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "t.made", "ce-subject", "42", "ce-partitionkey", "a%20b"}
	structured := `{"specversion":"1.0","id":"1","source":"/s","type":"t.made","subject":"42","data":{"n":9007199254740993}}`
	tests := map[string]struct {
		headers []string
		body    string
		status  int
		want    string // the data of the message, or part of the problem
	}{
		"structured":       {[]string{"Content-Type", "application/cloudevents+json; charset=UTF-8"}, structured, 202, `{"data":{"n":9007199254740993},"id":"1","source":"/s","specversion":"1.0","subject":"42","type":"t.made"}`},
		"binary":           {append(slices.Clone(binary), "Content-Type", "application/json"), `{"n":1}`, 202, `{"data":{"n":1},"datacontenttype":"application/json","id":"1","partitionkey":"a b","source":"/s","specversion":"1.0","subject":"42","type":"t.made"}`},
		"binary, text":     {append(slices.Clone(binary), "Content-Type", "text/plain"), `hello`, 202, `"data":"hello"`},
		"binary, bytes":    {append(slices.Clone(binary), "Content-Type", "application/octet-stream"), "\xff\x00", 202, `"data_base64":"/wA="`},
		"binary, no data":  {binary, "", 202, `{"id":"1","partitionkey":"a b","source":"/s","specversion":"1.0","subject":"42","type":"t.made"}`},
		"old version":      {[]string{"Content-Type", "application/cloudevents+json"}, strings.Replace(structured, "1.0", "0.3", 1), 400, "specversion"},
		"no type":          {[]string{"Content-Type", "application/cloudevents+json"}, strings.Replace(structured, `"type"`, `"kind"`, 1), 400, "no type"},
		"id a number":      {[]string{"Content-Type", "application/cloudevents+json"}, strings.Replace(structured, `"id":"1"`, `"id":1`, 1), 400, "no id"},
		"no object":        {[]string{"Content-Type", "application/cloudevents+json"}, `[]`, 400, "must be an object"},
		"binary, bad JSON": {append(slices.Clone(binary), "Content-Type", "application/json"), `{`, 400, "too early"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.load(sourcesFile)
			w := r.hook("events", tt.body, append(slices.Clone(token), tt.headers...)...)
			if w.Code != tt.status {
				t.Fatalf("answer = %d %s, want %d", w.Code, w.Body, tt.status)
			}
			if tt.status != 202 {
				if !strings.Contains(w.Body.String(), tt.want) {
					t.Errorf("answer = %s, want %q", w.Body, tt.want)
				}
				return
			}
			a := deliveryOf(t, w)
			m, ok := r.stored(a.Messages[0].ID)
			if !ok || m.Event != "t.made" || m.To.Users[0] != "42" || !strings.Contains(string(m.Data), tt.want) {
				t.Errorf("message = %+v %s, want data %s", m.Message, m.Data, tt.want)
			}
		})
	}
}

func TestCloudEventsBatch(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	post := func(body string) *httptest.ResponseRecorder {
		return r.hook("events", body, "X-Gitlab-Token", "events token", "Content-Type", "application/cloudevents-batch+json")
	}
	one := func(id string) string {
		return `{"specversion":"1.0","id":"` + id + `","source":"/s","type":"t","subject":"42"}`
	}
	w := post("[" + one("1") + "," + one("2") + "," + one("1") + "]")
	var answers []deliveryAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &answers); err != nil || w.Code != 202 || len(answers) != 3 {
		t.Fatalf("answer = %d %s, want three deliveries", w.Code, w.Body)
	}
	if answers[0].Messages[0] != answers[2].Messages[0] || answers[0].Messages[0] == answers[1].Messages[0] {
		t.Errorf("answers = %+v, want the same message for the same id", answers)
	}
	if ids, _ := r.handedOff(); len(ids) != 2 {
		t.Errorf("handed off %q, want two messages", ids)
	}
	if w := post("[]"); w.Code != 202 || strings.TrimSpace(w.Body.String()) != "[]" {
		t.Errorf("answer to an empty batch = %d %s", w.Code, w.Body)
	}
	if w := post("[" + one("3") + `,{"id":"4"}]`); w.Code != 400 || !strings.Contains(w.Body.String(), "event 1") {
		t.Errorf("answer = %d %s, want 400 naming event 1", w.Code, w.Body)
	}
	if w := post("[" + strings.Repeat("0,", MaxBatch) + "0]"); w.Code != 413 {
		t.Errorf("answer to 1,001 events = %d %s, want 413", w.Code, w.Body)
	}
}

func TestHandshake(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	ask := func(path, origin string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(http.MethodOptions, "/v1/webhooks/"+path, nil)
		if origin != "" {
			req.Header.Set("WebHook-Request-Origin", origin)
		}
		return r.do(req)
	}
	if w := ask("events", "events.example.com"); w.Code != 200 || w.Header().Get("WebHook-Allowed-Origin") != "events.example.com" ||
		w.Header().Get("WebHook-Allowed-Rate") != "*" || !strings.Contains(w.Header().Get("Allow"), "POST") {
		t.Errorf("answer = %d %v", w.Code, w.Header())
	}
	if w := ask("events", ""); w.Code != 400 {
		t.Errorf("answer without an origin = %d %s, want 400", w.Code, w.Body)
	}
	if w := ask("nobody", "events.example.com"); w.Code != 404 {
		t.Errorf("answer of no source = %d %s, want 404", w.Code, w.Body)
	}
}

// TestWebhookLimits: one request cannot make more than so many messages.
func TestWebhookLimits(t *testing.T) {
	r := newRig(t)
	rules := strings.Repeat("      - to: { all: true }\n", 100)
	r.load("sources:\n  many:\n    verify: gitlab\n    secrets: token\n    rules:\n" + rules)
	one := `{"specversion":"1.0","id":"%d","source":"/s","type":"t"},`
	var sb strings.Builder
	for i := range 11 {
		fmt.Fprintf(&sb, one, i)
	}
	w := r.hook("many", "["+strings.TrimSuffix(sb.String(), ",")+"]", "X-Gitlab-Token", "token", "Content-Type", "application/cloudevents-batch+json")
	var answers []deliveryAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &answers); err != nil || w.Code != 202 || len(answers) != 11 {
		t.Fatalf("answer = %d %s, want 11 deliveries", w.Code, w.Body)
	}
	for _, a := range answers {
		if a.Outcome != "parked" || len(a.Messages) > 0 || len(a.Failed) != 1 || !strings.Contains(a.Failed[0].Reason, "more than 1000 messages") {
			t.Errorf("answer = %+v, want it parked", a)
		}
	}
	if ids, _ := r.handedOff(); len(ids) > 0 {
		t.Errorf("%d messages were handed off", len(ids))
	}
}
