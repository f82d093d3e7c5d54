package collectfn

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
)

const shopSource = `{"verify": "gitlab", "secrets": ["a hidden word", "another hidden word"],
 "rules": [{"name": "paid", "when": "body.paid", "to": {"users": "body.user"}, "ttl": "1h"}]}`

func TestSourcesOfTheStore(t *testing.T) {
	r := newRig(t)
	if w := r.order("GET", "/v1/sources", ""); w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"sources":[]}` {
		t.Fatalf("at first there are %d %s", w.Code, w.Body)
	}
	w := r.order("PUT", "/v1/sources/store", shopSource)
	const told = `{"name":"store","from":"api","verify":"gitlab","secrets":2,"retain":"168h0m0s","rules":[{"name":"paid","when":"body.paid","to":{"users":"body.user"},"ttl":"1h0m0s"}],"updated_at":"2030-01-31T09:30:00Z"}`
	if w.Code != 200 || strings.TrimSpace(w.Body.String()) != told {
		t.Fatalf("PUT = %d %s\nwant %s", w.Code, w.Body, told)
	}
	if w := r.order("GET", "/v1/sources/store", ""); w.Code != 200 || strings.TrimSpace(w.Body.String()) != told {
		t.Errorf("GET = %d %s\nwant %s", w.Code, w.Body, told)
	}
	a := deliveryOf(t, r.hook("store", `{"paid":true,"user":"42"}`, "X-Gitlab-Token", "another hidden word"))
	if len(a.Messages) != 1 {
		t.Errorf("the webhook makes %+v", a)
	}
	// Replaced, in YAML.
	if w := r.order("PUT", "/v1/sources/store", "verify: gitlab\nsecrets: a third word\nrules: {to: {all: true}}\n"); w.Code != 200 {
		t.Fatalf("PUT = %d %s", w.Code, w.Body)
	}
	if w := r.hook("store", `{}`, "X-Gitlab-Token", "a hidden word"); w.Code != 401 {
		t.Errorf("the old secret is answered %d %s, want 401", w.Code, w.Body)
	}
	deliveryOf(t, r.hook("store", `{}`, "X-Gitlab-Token", "a third word"))
	if w := r.order("DELETE", "/v1/sources/store", ""); w.Code != 204 {
		t.Errorf("DELETE = %d %s", w.Code, w.Body)
	}
	for _, again := range []*httptest.ResponseRecorder{r.order("DELETE", "/v1/sources/store", ""), r.order("GET", "/v1/sources/store", ""), r.hook("store", `{}`)} {
		if again.Code != 404 || codeOf(again) != push.CodeNotFound {
			t.Errorf("after that = %d %s, want 404", again.Code, again.Body)
		}
	}
	if strings.Contains(r.logged.String(), "word") {
		t.Errorf("the log tells a secret: %s", r.logged)
	}
}

// TestSourcesAreReadAgain: what another process put into the store is known here
// within 5 s.
func TestSourcesAreReadAgain(t *testing.T) {
	r, other := newRig(t), newRig(t)
	other.store.Store.Close()
	other.store.Store = r.store.Store
	if w := other.hook("store", `{}`); w.Code != 404 {
		t.Fatalf("no source = %d", w.Code)
	}
	if w := r.order("PUT", "/v1/sources/store", shopSource); w.Code != 200 {
		t.Fatalf("PUT = %d %s", w.Code, w.Body)
	}
	if w := other.hook("store", `{}`); w.Code != 404 {
		t.Errorf("within 5 s = %d, want 404 still: the store is not read for every webhook", w.Code)
	}
	other.set(func() { other.clock = other.clock.Add(5 * time.Second) })
	if w := other.hook("store", `{}`); w.Code != 401 {
		t.Errorf("after 5 s = %d %s, want 401: the source is known", w.Code, w.Body)
	}
}

func TestSourcesRefused(t *testing.T) {
	r := newRig(t)
	r.load(sourcesFile)
	tests := map[string]struct {
		method, path, body string
		status             int
		code               push.Code
		detail             string
	}{
		"in the file":        {"PUT", "/v1/sources/github", shopSource, 409, push.CodeConflict, "read-only"},
		"remove of the file": {"DELETE", "/v1/sources/github", "", 409, push.CodeConflict, "read-only"},
		"not YAML":           {"PUT", "/v1/sources/new", "[", 422, push.CodeInvalidValue, "not YAML"},
		"empty":              {"PUT", "/v1/sources/new", "", 422, push.CodeInvalidValue, "nothing in it"},
		"two mistakes":       {"PUT", "/v1/sources/new", "verify: gitbub\nsecrets: x\nrules: {to: {all: 1}}\n", 422, push.CodeInvalidValue, "line 1, column 9: verify:"},
		"the second":         {"PUT", "/v1/sources/new", "verify: gitbub\nsecrets: x\nrules: {to: {all: 1}}\n", 422, push.CodeInvalidValue, "line 3, column 19: rules[0].to.all: gives int"},
		"our environment":    {"PUT", "/v1/sources/new", "verify: gitlab\nsecrets: env:SIGNING_SECRETS\nrules: {to: {all: true}}\n", 422, push.CodeInvalidValue, "for the file of sources alone"},
		"our files":          {"PUT", "/v1/sources/new", "verify: gitlab\nsecrets: ['file:/etc/passwd']\nrules: {to: {all: true}}\n", 422, push.CodeInvalidValue, "for the file of sources alone"},
		"a bad name":         {"PUT", "/v1/sources/a%20b", shopSource, 422, push.CodeInvalidValue, "a name has only"},
		"a key's name":       {"PUT", "/v1/sources/crm", shopSource, 409, push.CodeConflict, "an API key has this name"},
		"too large":          {"PUT", "/v1/sources/new", strings.Repeat("#", source.MaxDefinition+1), 413, push.CodeBodyTooLarge, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if w := r.order(tt.method, tt.path, tt.body); w.Code != tt.status || codeOf(w) != tt.code || !strings.Contains(w.Body.String(), tt.detail) {
				t.Errorf("%s %s = %d %s, want %d %s with %q", tt.method, tt.path, w.Code, w.Body, tt.status, tt.code, tt.detail)
			}
		})
	}
	for _, path := range []string{"GET /v1/sources", "GET /v1/sources/github", "PUT /v1/sources/x", "DELETE /v1/sources/x"} {
		method, url, _ := strings.Cut(path, " ")
		if w := r.do(httptest.NewRequest(method, url, nil)); w.Code != 401 {
			t.Errorf("%s without a key = %d, want 401", path, w.Code)
		}
	}
	if w := r.order("GET", "/v1/sources/github", ""); !strings.Contains(w.Body.String(), `"from":"file"`) || strings.Contains(w.Body.String(), "secret,") {
		t.Errorf("GET = %s", w.Body)
	}
}

// TestSourcesStoreAway: webhooks go on with what was known.
func TestSourcesStoreAway(t *testing.T) {
	r := newRig(t)
	if w := r.order("PUT", "/v1/sources/store", shopSource); w.Code != 200 {
		t.Fatalf("PUT = %d %s", w.Code, w.Body)
	}
	if w := r.hook("store", `{}`); w.Code != 401 {
		t.Fatalf("the source is not known: %d", w.Code)
	}
	r.store.Close()
	r.set(func() { r.clock = r.clock.Add(time.Minute) })
	if w := r.hook("store", `{}`); w.Code != 401 {
		t.Errorf("without the store = %d %s, want 401: the source is known", w.Code, w.Body)
	}
	for _, w := range []*httptest.ResponseRecorder{r.order("PUT", "/v1/sources/b", shopSource), r.order("DELETE", "/v1/sources/store", "")} {
		if w.Code != 503 || codeOf(w) != push.CodeUnavailable {
			t.Errorf("a change without the store = %d %s, want 503", w.Code, w.Body)
		}
	}
}
