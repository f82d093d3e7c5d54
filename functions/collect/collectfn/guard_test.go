package collectfn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushcluster/functions/collect/address"
	"pushcluster/functions/collect/limit"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
)

// guardedSources are sources that not everybody may post to at any time.
const guardedSources = `
sources:
  open: {verify: gitlab, secrets: token, rules: {to: {users: body.user}}}
  few:
    verify: gitlab
    secrets: token
    limit: [{rate: 100/h}, {rate: 2/h, burst: 2}]
    rules: {to: {users: body.user}}
  near:
    verify: gitlab
    secrets: token
    limit: {rate: 60/m}
    addresses: [192.0.2.0/24, 2001:db8::/32, 203.0.113.9]
    rules: {to: {users: body.user}}
`

// An unread is a body that nobody may read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, errors.New("not for reading")
}

// from posts to a source with a good secret, from an address and through hops.
func (r *rig) from(source, remote, hops string) *httptest.ResponseRecorder {
	req := httptest.NewRequest("POST", "/v1/webhooks/"+source, strings.NewReader(`{"user":"42"}`))
	req.Header.Set("X-Gitlab-Token", "token")
	req.RemoteAddr = remote
	if hops != "" {
		req.Header.Set("X-Forwarded-For", hops)
	}
	return r.do(req)
}

func TestAddresses(t *testing.T) {
	tests := map[string]struct {
		source, remote, hops string
		status               int
	}{
		"a network":               {"near", "192.0.2.200:4711", "", 202},
		"IPv6":                    {"near", "[2001:db8::1]:4711", "", 202},
		"one address":             {"near", "203.0.113.9:1", "", 202},
		"elsewhere":               {"near", "203.0.113.8:1", "", 403},
		"no address":              {"near", "@", "", 403},
		"elsewhere, forged":       {"near", "203.0.113.8:1", "192.0.2.1", 403},
		"a proxy brings it":       {"near", "10.0.0.1:1", "192.0.2.1", 202},
		"a proxy brings another":  {"near", "10.0.0.1:1", "203.0.113.8", 403},
		"a proxy, forged":         {"near", "10.0.0.1:1", "192.0.2.1, 203.0.113.8", 403},
		"a proxy by itself":       {"near", "10.0.0.1:1", "", 403},
		"a source without a list": {"open", "203.0.113.8:1", "", 202},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.load(guardedSources)
			r.collect.cfg.Proxies, _ = address.ParsePrefixes("10.0.0.0/8")
			w := r.from(tt.source, tt.remote, tt.hops)
			if w.Code != tt.status || tt.status == 403 && codeOf(w) != push.CodeAddressForbidden {
				t.Errorf("answered %d %s, want %d", w.Code, w.Body, tt.status)
			}
			req := httptest.NewRequest("OPTIONS", "/v1/webhooks/"+tt.source, nil)
			req.RemoteAddr = tt.remote
			req.Header.Set("X-Forwarded-For", tt.hops)
			req.Header.Set("WebHook-Request-Origin", "example.com")
			if w := r.do(req); (w.Code == 403) != (tt.status == 403) || tt.source == "near" && w.Code == 200 && w.Header().Get("WebHook-Allowed-Rate") != "60" {
				t.Errorf("the handshake is answered %d %v", w.Code, w.Header())
			}
		})
	}
}

// TestForbiddenAddressIsNotRead refuses before anything of the body is read.
func TestForbiddenAddressIsNotRead(t *testing.T) {
	r := newRig(t)
	r.load(guardedSources)
	req := httptest.NewRequest("POST", "/v1/webhooks/near", unread{t})
	req.RemoteAddr = "203.0.113.8:1"
	if w := r.do(req); w.Code != 403 {
		t.Errorf("answered %d %s, want 403", w.Code, w.Body)
	}
}

func TestSourceLimit(t *testing.T) {
	r := newRig(t)
	r.load(guardedSources)
	for i, left := range []string{`"100/h";r=99;t=36, "2/h";r=1;t=1800`, `"100/h";r=98;t=72, "2/h";r=0;t=3600`} {
		w := r.from("few", "192.0.2.1:1", "")
		if w.Code != 202 || w.Header().Get("RateLimit") != left || w.Header().Get("RateLimit-Policy") != `"100/h";q=100;w=3600, "2/h";q=2;w=3600` {
			t.Fatalf("webhook %d is answered %d %s %v, want 202 and RateLimit %s", i, w.Code, w.Body, w.Header(), left)
		}
	}
	req := httptest.NewRequest("POST", "/v1/webhooks/few", unread{t})
	req.Header.Set("X-Gitlab-Token", "token")
	w := r.do(req)
	if w.Code != 429 || codeOf(w) != push.CodeTooManyRequests || w.Header().Get("Retry-After") != "1800" ||
		w.Header().Get("RateLimit") != `"100/h";r=98;t=72, "2/h";r=0;t=3600` {
		t.Errorf("the third is answered %d %s %v, want 429 until half an hour has passed", w.Code, w.Body, w.Header())
	}
	if w := r.from("open", "192.0.2.1:1", ""); w.Code != 202 || w.Header().Get("RateLimit") != "" {
		t.Errorf("another source is answered %d %v", w.Code, w.Header())
	}
	r.later(1800e9)
	if w := r.from("few", "192.0.2.1:1", ""); w.Code != 202 {
		t.Errorf("after half an hour it is answered %d %s, want 202", w.Code, w.Body)
	}
}

func TestKeyLimit(t *testing.T) {
	r := newRig(t)
	var err error
	if r.collect.cfg.KeyLimits, err = limit.ParseKeys("shop:2/h,*:3/h"); err != nil {
		t.Fatal(err)
	}
	status := func(w *httptest.ResponseRecorder) string { return fmt.Sprint(w.Code) }
	// Every request counts, a refused one too; an array is one.
	got := []string{
		status(r.post(`{"to":{"all":true},"data":1}`)), status(r.post(`{`)), status(r.post(`[{"to":{"all":true},"data":1}]`)),
		status(r.order("GET", "/v1/parked", "")), status(r.api("/api/info", `{}`)),
		status(r.orderAs("other", "GET", "/v1/parked", "")), status(r.orderAs("wrong", "GET", "/v1/parked", "")),
	}
	if want := "202 400 429 429 429 200 401"; strings.Join(got, " ") != want {
		t.Errorf("answered %v, want %s", got, want)
	}
	w := r.api("/api/publish", `{"channel":"a","data":1}`)
	if !strings.HasPrefix(w.Body.String(), `{"error":{"code":111,"message":"too many requests`) || w.Header().Get("Retry-After") != "1800" {
		t.Errorf("the server API answers %s %v, want the error 111", w.Body, w.Header())
	}
	req := httptest.NewRequest("POST", "/v1/messages", unread{t})
	req.Header.Set("X-API-Key", "sesame")
	if w := r.do(req); w.Code != 429 || w.Header().Get("RateLimit") != `"2/h";r=0;t=3600` {
		t.Errorf("answered %d %v, want 429", w.Code, w.Header())
	}
	if n := len(r.sent()); n != 1 {
		t.Errorf("%d messages were sent, want 1", n)
	}
}

// An awayLimits cannot judge.
type awayLimits struct{}

func (awayLimits) Take(context.Context, string, []registry.Rate) (registry.Verdict, error) {
	return registry.Verdict{}, errors.New("away")
}

// TestLimitsAway lets everything through while nobody can judge, and counts it.
func TestLimitsAway(t *testing.T) {
	r := newRig(t)
	r.load(guardedSources)
	reg := prometheus.NewRegistry()
	r.collect.metrics = newMetrics(reg)
	r.collect.cfg.Limits = awayLimits{}
	for range 5 {
		if w := r.from("few", "192.0.2.1:1", ""); w.Code != 202 || w.Header().Get("RateLimit") != "" {
			t.Errorf("answered %d %s %v, want 202", w.Code, w.Body, w.Header())
		}
	}
	if got := sample(t, reg, "collect_limits_total", "source", "unjudged"); got != 5 {
		t.Errorf("%v requests are counted as unjudged, want 5", got)
	}
	if n := strings.Count(r.logged.String(), "requests pass unjudged"); n != 1 {
		t.Errorf("the log says it %d times, want once", n)
	}
}

// sample returns the value of one series, by the values of its labels in the
// order of their names; 0 if it is not there.
func sample(t *testing.T, reg *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if strings.Join(values, " ") == strings.Join(labels, " ") {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestSourceMetrics(t *testing.T) {
	r := newRig(t)
	r.load(guardedSources)
	reg := prometheus.NewRegistry()
	r.collect.metrics = newMetrics(reg)
	r.from("near", "203.0.113.8:1", "")
	for range 3 {
		r.from("few", "192.0.2.1:1", "")
	}
	r.hook("few", `{}`)
	r.hook("open", `{"user":"42"}`, "X-Gitlab-Token", "wrong")
	r.hook("open", `{"user":"42"}`)
	r.hook("open", `{"user":"42"}`, "X-Gitlab-Token", "token", "Idempotency-Key", "a")
	r.hook("open", `{"user":"42"}`, "X-Gitlab-Token", "token", "Idempotency-Key", "a") // a repeat
	r.hook("nobody", `{}`)
	tests := []struct {
		metric string
		labels []string
		want   float64
	}{
		{"collect_source_received_total", []string{"near"}, 1},
		{"collect_source_received_total", []string{"few"}, 4},
		{"collect_source_received_total", []string{"open"}, 4},
		{"collect_source_received_total", []string{"nobody"}, 0},
		{"collect_source_verified_total", []string{"few"}, 2},
		{"collect_source_verified_total", []string{"open"}, 2},
		{"collect_source_refused_total", []string{"address_forbidden", "near"}, 1},
		{"collect_source_refused_total", []string{"too_many_requests", "few"}, 2},
		{"collect_source_refused_total", []string{"signature_invalid", "open"}, 1},
		{"collect_source_refused_total", []string{"signature_missing", "open"}, 1},
		{"collect_source_sent_total", []string{"open"}, 1},
		{"collect_limits_total", []string{"source", "passed"}, 2},
		{"collect_limits_total", []string{"source", "refused"}, 2},
	}
	for _, tt := range tests {
		if got := sample(t, reg, tt.metric, tt.labels...); got != tt.want {
			t.Errorf("%s%v = %v, want %v", tt.metric, tt.labels, got, tt.want)
		}
	}
}

// TestRuleLabels bounds how many rules have labels of their own: the names of
// rules come over the API, too.
func TestRuleLabels(t *testing.T) {
	m := newSourceMetrics(promauto.With(nil))
	for i := range maxRuleLabels {
		if source, rule := m.rule("shop", fmt.Sprint("r", i)); source != "shop" || rule != fmt.Sprint("r", i) {
			t.Fatalf("rule %d of shop is %q of %q", i, rule, source)
		}
	}
	if source, rule := m.rule("shop", "one more"); source != "shop" || rule != "other" {
		t.Errorf("one more of shop is %q of %q, want other of shop", rule, source)
	}
	if source, rule := m.rule("shop", "r7"); source != "shop" || rule != "r7" {
		t.Errorf("a rule that is known is %q of %q", rule, source)
	}
}

// TestGuardsAreShown tells limits and addresses of a source, and takes them.
func TestGuardsAreShown(t *testing.T) {
	r := newRig(t)
	w := r.order(http.MethodPut, "/v1/sources/shop2", `{"verify":"gitlab","secrets":"token","limit":{"rate":"100/s","burst":200},
		"addresses":["192.0.2.0/24","203.0.113.9"],"rules":{"to":{"all":true}}}`)
	for _, want := range []string{`"limit":[{"rate":"100/s","burst":200}]`, `"addresses":["192.0.2.0/24","203.0.113.9/32"]`} {
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("answered %d %s, want %s", w.Code, w.Body, want)
		}
	}
	w = r.order(http.MethodPut, "/v1/sources/shop2", `{"verify":"gitlab","secrets":"token","limit":{"rate":"100"},"addresses":["192.0.2.1/24"],"rules":{"to":{"all":true}}}`)
	for _, want := range []string{"limit.rate: a rate is a number", "addresses[0]: is not the beginning of a network; the network is 192.0.2.0/24"} {
		if w.Code != 422 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("answered %d %s, want %q", w.Code, w.Body, want)
		}
	}
}
