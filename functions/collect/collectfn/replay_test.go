package collectfn

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
)

// A trimmingStore is a store that keeps two deliveries of a source at most.
type trimmingStore struct{ *faultyStore }

func (s *trimmingStore) TrimDeliveries(ctx context.Context, source string, most int, size int64) (int, error) {
	return s.faultyStore.TrimDeliveries(ctx, source, min(2, most), size)
}

func slackSignature(secret, stamp, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("v0:" + stamp + ":" + body))
	return "v0=" + hex.EncodeToString(mac.Sum(nil))
}

// linesOf reads an answer in lines and its summary.
func linesOf[L any](t *testing.T, w *httptest.ResponseRecorder) (lines []L, sum summary) {
	t.Helper()
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("answer = %d %s", w.Code, w.Body)
	}
	texts := strings.Split(strings.TrimSuffix(w.Body.String(), "\n"), "\n")
	for i, text := range texts {
		if i == len(texts)-1 {
			var last struct{ Summary *summary }
			if err := json.Unmarshal([]byte(text), &last); err != nil || last.Summary == nil {
				t.Fatalf("the last line is %s, want a summary", text)
			}
			return lines, *last.Summary
		}
		var line L
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("line %d is %s: %v", i, text, err)
		}
		lines = append(lines, line)
	}
	t.Fatal("there is no line")
	return nil, sum
}

// again replays one delivery.
func (r *rig) again(id, body string) (a replayed) {
	r.t.Helper()
	w := r.order("POST", "/v1/sources/github/deliveries/"+id+"/replay", body)
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != 202 {
		r.t.Fatalf("replay of %s = %d %s, want 202", id, w.Code, w.Body)
	}
	return a
}

var (
	brokenFile   = strings.Replace(sourcesFile, `when: body.action == "broken"`, `when: body.action == "opened"`, 1)
	repairedFile = strings.Replace(brokenFile, "body.nobody.id", "body.?nobody.?id.orValue('9')", 1)
)

// TestReplay: a delivery is parked, its rule repaired, and it is sent, once.
func TestReplay(t *testing.T) {
	r := newRig(t)
	r.load(brokenFile)
	deliveryOf(t, r.github("d", "github secret", opened))
	r.handedOff()
	if a := r.again("d", ""); a.Was != "parked" || a.Outcome != "parked" || len(a.Failed) != 1 || len(a.Messages) != 2 || !a.Messages[0].Repeat {
		t.Errorf("replayed by the broken rule it is %+v", a)
	}
	r.load(repairedFile)
	r.later(time.Hour)
	r.handedOff()
	a := r.again("d", "{}")
	if a.Was != "parked" || a.Outcome != "accepted" || len(a.Failed) != 0 || len(a.Messages) != 3 ||
		!a.Messages[0].Repeat || a.Messages[2] != (replayedMessage{ID: "github/d/broken"}) {
		t.Errorf("replayed it is %+v", a)
	}
	m, ok := r.stored("github/d/broken")
	if !ok || !m.CreatedAt.Equal(r.now()) || m.To.Users[0] != "9" {
		t.Errorf("the message is %+v, %v, want it made now", m, ok)
	}
	kept := r.delivered("github", "d")
	if kept.Outcome != "accepted" || !kept.ReplayedAt.Equal(r.now()) || !kept.ReceivedAt.Equal(start) || len(kept.Messages) != 3 || len(kept.Failed) != 0 || kept.Replays != 0 {
		t.Errorf("kept is %+v", kept)
	}
	// Once more sends nothing new.
	r.handedOff()
	for _, one := range r.again("d", `{"again":false}`).Messages {
		if !one.Repeat {
			t.Errorf("%s is new", one.ID)
		}
	}
	// Unless it is asked for, every time.
	for n := 1; n <= 2; n++ {
		r.handedOff()
		r.again("d", `{"again":true}`)
		ids, _ := r.handedOff()
		want := fmt.Sprintf("[github/d/review/r%d github/d/watch/r%d github/d/broken/r%d]", n, n, n)
		if fmt.Sprint(ids) != want {
			t.Errorf("sent again were %v, want %s", ids, want)
		}
	}
	if kept := r.delivered("github", "d"); kept.Replays != 2 || len(kept.Messages) != 9 || kept.Outcome != "accepted" {
		t.Errorf("kept is %+v", kept)
	}
	// Rules that make nothing of it do not unmake what was sent.
	r.load(strings.ReplaceAll(sourcesFile, `"opened"`, `"moved"`))
	if a := r.again("d", ""); a.Was != "accepted" || a.Outcome != "no_rule_matched" {
		t.Errorf("replayed by other rules it is %+v", a)
	}
	if kept := r.delivered("github", "d"); kept.Outcome != "accepted" || len(kept.Messages) != 9 {
		t.Errorf("kept is %+v", kept)
	}
}

// TestReplaySeesTheSame: rules see of a replayed delivery what they saw of it
// when it came.
func TestReplaySeesTheSame(t *testing.T) {
	r := newRig(t)
	r.load(`
sources:
  events:
    verify: gitlab
    secrets: token
    rules:
      - name: r
        to: { all: true }
        data: '{"b": dyn(body), "h": headers, "q": query, "s": source, "at": received_at}'
`)
	tests := map[string]struct {
		path, body string
		headers    []string
	}{
		"JSON":        {"events?a=1&a=2&b=", `{"n":9007199254740993,"x":[1.50,"é"]}`, []string{"Content-Type", "application/json"}},
		"a form":      {"events", "a=1&a=2&b=%20", []string{"Content-Type", "application/x-www-form-urlencoded"}},
		"a text":      {"events", "hello", []string{"Content-Type", "text/plain"}},
		"nothing":     {"events", "", nil},
		"odd bytes":   {"events", "\xff\x00", nil},
		"binary":      {"events", `{"n":1}`, []string{"Content-Type", "application/json", "ce-specversion", "1.0", "ce-id", "2", "ce-source", "/s", "ce-type", "t", "ce-extra", "a%20b"}},
		"structured":  {"events", `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"n":9007199254740993}}`, []string{"Content-Type", "application/cloudevents+json"}},
		"of a batch":  {"events", `[{"specversion":"1.0","id":"3","source":"/s","type":"t","data":{"n":9007199254740993,"<":"&"}}]`, []string{"Content-Type", "application/cloudevents-batch+json"}},
		"an odd name": {"events", `{}`, []string{"Idempotency-Key", "a/b c*ü"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r.later(time.Hour)
			rng := fmt.Sprintf(`{"from":%q,"again":true}`, r.now().Format(time.RFC3339))
			if w := r.hook(tt.path, tt.body, append(tt.headers, "X-Gitlab-Token", "token")...); w.Code != 202 {
				t.Fatalf("answer = %d %s", w.Code, w.Body)
			}
			came := r.asked()[0].Messages[0]
			r.later(time.Hour)
			lines, _ := linesOf[replayed](t, r.order("POST", "/v1/sources/events/replay", rng))
			if len(lines) != 1 || lines[0].Outcome != "accepted" {
				t.Fatalf("replayed: %+v", lines)
			}
			again := r.asked()[0].Messages[0]
			if string(again.Data) != string(came.Data) || again.ID != came.ID+"/r1" {
				t.Errorf("replayed it is %s %s\nwhen it came %s %s", again.ID, again.Data, came.ID, came.Data)
			}
		})
	}
}

// TestReplayRange: many, the oldest first, in as many orders as it takes.
func TestReplayRange(t *testing.T) {
	r := newRig(t)
	r.load(brokenFile)
	const n = 130 // over two pages
	for i := range n {
		body := opened
		if i%10 == 9 {
			body = `{"action":"closed"}`
		}
		deliveryOf(t, r.github(fmt.Sprintf("d%03d", i), "github secret", body))
		r.later(time.Second)
	}
	r.load(repairedFile)
	r.handedOff()
	var got []string
	next := `"from":"2030-01-31T09:30:00Z"`
	for range 3 {
		lines, sum := linesOf[replayed](t, r.order("POST", "/v1/sources/github/replay", `{"outcome":"parked","limit":70,`+next+`}`))
		for _, line := range lines {
			if line.Was != "parked" || line.Outcome != "accepted" || len(line.Messages) != 3 || line.Messages[2].Repeat {
				t.Errorf("line %+v", line)
			}
			got = append(got, line.Delivery)
		}
		if sum.Deliveries != len(lines) || sum.Results["accepted"] != len(lines) || sum.More != (sum.Next != "") || sum.Problem != nil {
			t.Errorf("summary %+v", sum)
		}
		if !sum.More {
			break
		}
		next = `"next":"` + sum.Next + `"`
	}
	if len(got) != n-n/10 || got[0] != "d000" || got[len(got)-1] != "d128" {
		t.Errorf("%d were replayed, %v", len(got), got)
	}
	ids, _ := r.handedOff()
	if len(ids) != 3*(n-n/10) || ids[2] != "github/d000/broken" || ids[len(ids)-1] != "github/d128/broken" {
		t.Errorf("%d messages were handed off, %v", len(ids), ids)
	}
	if list := r.deliveries("github", "?outcome=parked"); len(list.Deliveries) != 0 {
		t.Errorf("parked are still %s", list.String())
	}
	// A part of it, and once more.
	lines, sum := linesOf[replayed](t, r.order("POST", "/v1/sources/github/replay", `{"from":"2030-01-31T09:30:08Z","to":"2030-01-31T09:30:11Z"}`))
	if len(lines) != 3 || sum.Results["accepted"] != 2 || sum.Results["no_rule_matched"] != 1 || sum.More || !lines[0].Messages[2].Repeat {
		t.Errorf("lines %+v, %+v", lines, sum)
	}
}

// TestReplayStops: an order that cannot go on says so, and how to go on.
func TestReplayStops(t *testing.T) {
	r := newRig(t)
	r.load(brokenFile)
	deliveryOf(t, r.github("d", "github secret", opened))
	r.later(time.Second)
	r.load(repairedFile)
	r.set(func() { r.down = true })
	r.store.outboxAway = true
	const order = `{"from":"2030-01-31T09:00:00Z"}`
	lines, sum := linesOf[replayed](t, r.order("POST", "/v1/sources/github/replay", order))
	if len(lines) != 0 || sum.Problem == nil || sum.Problem.Code != push.CodeUnavailable || !sum.More || sum.Next == "" {
		t.Fatalf("lines %+v, summary %+v", lines, sum)
	}
	if w := r.order("POST", "/v1/sources/github/deliveries/d/replay", ""); w.Code != 503 {
		t.Errorf("one replay = %d %s, want 503", w.Code, w.Body)
	}
	r.store.outboxAway = false
	lines, sum = linesOf[replayed](t, r.order("POST", "/v1/sources/github/replay", `{"next":"`+sum.Next+`"}`))
	if len(lines) != 1 || lines[0].Outcome != "accepted" || sum.Problem != nil || sum.More {
		t.Errorf("lines %+v, summary %+v", lines, sum)
	}
	for range longAtOnce {
		r.collect.long <- struct{}{}
	}
	if w := r.order("POST", "/v1/sources/github/replay", order); w.Code != 429 || codeOf(w) != push.CodeTooManyRequests {
		t.Errorf("a third order = %d %s, want 429", w.Code, w.Body)
	}
	for range longAtOnce {
		<-r.collect.long
	}
	r.store.Close()
	if w := r.order("POST", "/v1/sources/github/replay", order); w.Code != 503 {
		t.Errorf("without the store = %d %s, want 503", w.Code, w.Body)
	}
}

// TestReplayLongAfter: a message that is no longer known is not sent again.
func TestReplayLongAfter(t *testing.T) {
	r := newRig(t)
	r.load(strings.Replace(repairedFile, "    verify: github\n", "    verify: github\n    retain: 672h\n", 1))
	deliveryOf(t, r.github("d", "github secret", opened))
	r.later(20 * 24 * time.Hour)
	if _, err := r.store.Sweep(t.Context(), r.now()); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.stored("github/d/watch"); ok {
		t.Fatal("the message is still known")
	}
	r.handedOff()
	for _, m := range r.again("d", "").Messages {
		if !m.Repeat {
			t.Errorf("%s counts as new", m.ID)
		}
	}
	if ids, _ := r.handedOff(); len(ids) > 0 {
		t.Errorf("%v were sent again", ids)
	}
}

// TestUnsentIsParked: what was stored and could not be handed on waits for a
// replay, or for its sender.
func TestUnsentIsParked(t *testing.T) {
	for name, heal := range map[string]func(r *rig){
		"a replay": func(r *rig) { r.again("d", "") },
		"a repeat": func(r *rig) { deliveryOf(r.t, r.github("d", "github secret", opened)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.load(sourcesFile)
			r.set(func() { r.down = true })
			r.store.outboxAway = true
			if w := r.github("d", "github secret", opened); w.Code != 503 {
				t.Fatalf("answer = %d %s, want 503", w.Code, w.Body)
			}
			if kept := r.delivered("github", "d"); kept.Outcome != "parked" || len(kept.Failed) != 1 || kept.Failed[0].Kind != "unavailable" {
				t.Errorf("kept is %+v", kept)
			}
			r.store.outboxAway = false
			heal(r)
			if kept := r.delivered("github", "d"); kept.Outcome != "accepted" || len(kept.Failed) != 0 {
				t.Errorf("kept is %+v", kept)
			}
			if entries := r.outbox(); len(entries) != 2 {
				t.Errorf("the outbox has %d entries, want 2", len(entries))
			}
		})
	}
}

// TestDryRun compares rules over what came, and sends nothing.
func TestDryRun(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	for id, body := range map[string]string{
		"same": `{"action":"closed"}`, "changed": opened, "removed": `{"action":"opened"}`,
		"added": `{"action":"labeled","who":"7"}`, "repaired": `{"action":"broken"}`,
		"skipped": `{"action":"opened","x":"` + strings.Repeat("x", maxKeptBody) + `"}`,
	} {
		deliveryOf(t, r.github(id, "github secret", body))
	}
	r.later(time.Second)
	r.handedOff()
	const candidate = `
- name: review
  when: body.action == "opened" && has(body.pull_request)
  to: { users: "body.pull_request.requested_reviewers.map(r, string(r.id))" }
  event: '"review.requested"'
  data: '{"url": body.pull_request.html_url, "title": body.pull_request.title}'
  ttl: 48h
  collapse_key: '"pr-" + string(body.pull_request.id)'
- name: watch
  when: body.action == "opened" && has(body.pull_request)
  to: { channels: "'all-repos'" }
- name: label
  when: body.action == "labeled"
  to: { users: body.who }
- name: broken
  when: body.action == "broken" && has(body.nobody)
  to: { users: body.nobody.id }
`
	rules, err := json.Marshal(candidate)
	if err != nil {
		t.Fatal(err)
	}
	w := r.order("POST", "/v1/sources/github/dry-run", `{"from":"2030-01-31T09:30:00Z","rules":`+string(rules)+`}`)
	lines, sum := linesOf[dryRun](t, w)
	results := map[string]string{"same": "same", "changed": "changed", "removed": "removed", "added": "added", "repaired": "changed", "skipped": "skipped"}
	if len(lines) != len(results) || sum.Deliveries != len(results) || sum.Results["changed"] != 2 || sum.More {
		t.Errorf("%d lines, summary %+v", len(lines), sum)
	}
	for _, line := range lines {
		if line.Result != results[line.Delivery] {
			t.Errorf("%s is %s", line.Delivery, line.Result)
		}
		switch line.Delivery {
		case "changed": // review is the same, whatever the order of fields
			if len(line.Now.Messages) != 1 || line.Now.Messages[0].ID != "github/changed/watch" || line.Now.Messages[0].To.Channels[0] != "repo:a/b" ||
				len(line.Candidate.Messages) != 1 || line.Candidate.Messages[0].To.Channels[0] != "all-repos" || line.Candidate.Messages[0].TTL != "72h0m0s" {
				t.Errorf("changed is %+v", line)
			}
		case "repaired":
			if len(line.Now.Failed) != 1 || len(line.Candidate.Failed) != 0 || line.Was != "parked" || line.Candidate.Outcome != "no_rule_matched" {
				t.Errorf("repaired is %+v", line)
			}
		case "added":
			if line.Candidate.Messages[0].To.Users[0] != "7" || line.Now.Outcome != "no_rule_matched" || line.Candidate.Outcome != "accepted" {
				t.Errorf("added is %+v", line)
			}
		}
	}
	if ids, _ := r.handedOff(); len(ids) > 0 {
		t.Errorf("a dry run sent %v", ids)
	}
	if kept := r.delivered("github", "added"); kept.Outcome != "no_rule_matched" || !kept.ReplayedAt.IsZero() {
		t.Errorf("a dry run changed what is kept: %+v", kept)
	}
	// In JSON, of one outcome, and not all of it.
	w = r.order("POST", "/v1/sources/github/dry-run", `{"from":"2030-01-31T09:30:00Z","outcome":"no_rule_matched","limit":1,"rules":[{"to":{"all":true}}]}`)
	if lines, sum := linesOf[dryRun](t, w); len(lines) != 1 || lines[0].Delivery != "added" || lines[0].Result != "added" || !sum.More || sum.Next == "" {
		t.Errorf("lines %+v, summary %+v", lines, sum)
	}
}

// TestDryRunIsBounded: large messages to many do not make long lines.
func TestDryRunIsBounded(t *testing.T) {
	r := newRig(t)
	r.load("sources:\n  a:\n    verify: gitlab\n    secrets: token\n    rules:\n" + strings.Repeat("      - { to: { users: body.users }, data: body.text }\n", shownMessages+2))
	var users []string
	for i := range 100 {
		users = append(users, fmt.Sprintf(`"%d%s"`, i, strings.Repeat("u", 200)))
	}
	body := `{"users":[` + strings.Join(users, ",") + `],"text":"` + strings.Repeat("t", 2*shownData) + `"}`
	for i := range 2 {
		deliveryOf(t, r.hook("a", body+strings.Repeat(" ", i), "X-Gitlab-Token", "token"))
	}
	r.later(time.Second)
	w := r.order("POST", "/v1/sources/a/dry-run", `{"from":"2030-01-31T09:30:00Z","rules":[{"to":{"users":"'1'"},"data":"1"}]}`)
	lines, _ := linesOf[dryRun](t, w)
	if w.Body.Len() > 2*100<<10 {
		t.Errorf("two lines are %d bytes", w.Body.Len())
	}
	for _, line := range lines {
		if now := line.Now; line.Result != "changed" || len(now.Messages) != shownMessages || now.Further != 2 || now.Messages[0].Recipients != 100 ||
			len(now.Messages[0].To.Users) != shownRecipients || now.Messages[0].Data != nil || now.Messages[0].DataSize == 0 {
			t.Errorf("line %+v", line)
		}
	}
}
