package collectfn

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// stock puts a source into the store as another version of this program may have
// done, unchecked.
func (r *rig) stock(name, definition string) {
	r.t.Helper()
	if err := r.store.PutSource(r.t.Context(), store.SourceRecord{Name: name, Definition: []byte(definition), UpdatedAt: r.now()}, 10_000); err != nil {
		r.t.Fatal(err)
	}
}

// TestSourceUnusable: a source that nobody can use is there all the same, and
// says what is wrong; its sender hears nothing that it could take for good, and
// 503 only where the source may heal by itself.
func TestSourceUnusable(t *testing.T) {
	r := newRig(t)
	r.stock("later", "verify: gitlab\nsecrets: x\nrules: {to: {all: true}}\nnewer: 1\n")
	r.stock("shut", "verify: gitlab\nsecrets: 'arn:away'\nrules: {to: {all: true}}\n")
	r.set(func() { r.away = true })
	tests := map[string]struct {
		method, path, body string
		code               push.Code // "": 200
		part               string
	}{
		"a webhook":                  {"POST", "/v1/webhooks/later", "1", push.CodeSourceUnusable, "send it again then"},
		"a webhook, no secret":       {"POST", "/v1/webhooks/shut", "1", push.CodeUnavailable, "away"},
		"a replay":                   {"POST", "/v1/sources/later/replay", "{}", push.CodeSourceUnusable, ""},
		"the source":                 {"GET", "/v1/sources/later", "", "", `"wrong":{"code":"source_unusable","reason":"line 4, column 1: newer: there is no such field`},
		"the source, no secret":      {"GET", "/v1/sources/shut", "", "", `"wrong":{"code":"unavailable","reason":"line 2, column 10: secrets[0]: the vault is away"}`},
		"its deliveries":             {"GET", "/v1/sources/later/deliveries", "", "", `{"deliveries":[]}`},
		"its deliveries, no secret":  {"GET", "/v1/sources/shut/deliveries", "", "", `{"deliveries":[]}`},
		"those of one that is not":   {"GET", "/v1/sources/none/deliveries", "", push.CodeNotFound, ""},
		"a webhook, no such source":  {"POST", "/v1/webhooks/none", "1", push.CodeNotFound, ""},
		"all sources, those as well": {"GET", "/v1/sources", "", "", `{"name":"later","from":"api","verify":"","secrets":0,"retain":"","rules":[],"updated_at":"2030-01-31T09:30:00Z","wrong":{`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := r.order(tt.method, tt.path, tt.body)
			if got := codeOf(w); got != tt.code || tt.code == "" && w.Code != 200 || !strings.Contains(w.Body.String(), tt.part) {
				t.Errorf("%s %s = %d %s, want %q with %s", tt.method, tt.path, w.Code, w.Body, tt.code, tt.part)
			}
			if retry := w.Header().Get("Retry-After"); (retry != "") != (tt.code == push.CodeUnavailable) {
				t.Errorf("%s %s has Retry-After %q", tt.method, tt.path, retry)
			}
		})
	}
	if log := r.logged.String(); strings.Count(log, "a source of the store is wrong") != 2 {
		t.Errorf("want each source's fault told once, in\n%s", log)
	}
	r.set(func() { r.away = false })
	r.later(5 * time.Second)
	if w := r.hook("shut", "{}", "X-Gitlab-Token", "word of arn:away"); w.Code != 202 {
		t.Errorf("once the secret is there = %d %s, want 202", w.Code, w.Body)
	}
}

// TestSourceReplacedByAWrongOne: the last good one stays in force, and says why.
func TestSourceReplacedByAWrongOne(t *testing.T) {
	r := newRig(t)
	r.stock("store", shopSource)
	if w := r.hook("store", "{}"); w.Code != 401 {
		t.Fatalf("the source is not known: %d", w.Code)
	}
	r.later(5 * time.Second)
	r.stock("store", "verify: gitlub\nnewer: 1\n")
	if w := r.order("GET", "/v1/sources/store", ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"verify":"gitlab","secrets":2`) ||
		!strings.Contains(w.Body.String(), `"wrong":{"code":"source_unusable","reason":"line 2, column 1: newer: there is no such field`) || !strings.Contains(w.Body.String(), "; line 1, column 9: verify: ") {
		t.Errorf("GET = %d %s, want the last good one and what is wrong with the new", w.Code, w.Body)
	}
	if w := r.hook("store", "{}"); w.Code != 401 {
		t.Errorf("a webhook = %d %s, want 401 of the last good one", w.Code, w.Body)
	}
}

// TestSourcesUnread: where the store was never read, no list looks as if it were
// all there is.
func TestSourcesUnread(t *testing.T) {
	r := newRig(t)
	r.store.sourcesAway = true
	for _, path := range []string{"/v1/sources", "/v1/sources/shop/deliveries"} {
		if w := r.order("GET", path, ""); codeOf(w) != push.CodeUnavailable {
			t.Errorf("GET %s = %d %s, want 503", path, w.Code, w.Body)
		}
	}
}

// TestWebhookWaitsForNoOtherSource: the first webhook of a Collect has only its
// own source made ready, however many the store holds.
func TestWebhookWaitsForNoOtherSource(t *testing.T) {
	r := newRig(t)
	for i := range 50 {
		r.stock(fmt.Sprintf("s%d", i), fmt.Sprintf("verify: gitlab\nsecrets: 'arn:%d'\nrules: {to: {all: true}}\n", i))
	}
	if w := r.hook("s7", "{}", "X-Gitlab-Token", "word of arn:7"); w.Code != 202 {
		t.Fatalf("the webhook = %d %s", w.Code, w.Body)
	}
	r.set(func() {
		if r.lookUps != 1 {
			t.Errorf("for one webhook %d secrets were looked up, want 1", r.lookUps)
		}
	})
	var list struct{ Sources []json.RawMessage }
	// One list makes ready what it can in 5 s; a slow machine needs several.
	for begun := time.Now(); ; {
		decode(t, r.order(http.MethodGet, "/v1/sources", ""), &list)
		if !strings.Contains(fmt.Sprintf("%s", list.Sources), "wrong") || time.Since(begun) > time.Minute {
			break
		}
	}
	if len(list.Sources) != 50 || strings.Contains(fmt.Sprintf("%s", list.Sources), "wrong") {
		t.Errorf("there are %d sources: %s", len(list.Sources), list.Sources)
	}
}
