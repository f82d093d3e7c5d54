package collectfn

import (
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestDeliveriesPage runs what docs/webhooks.md says about deliveries, and holds
// the answers against those that it shows.
func TestDeliveriesPage(t *testing.T) {
	for _, tool := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skipf("the page cannot be tried: %v", err)
		}
	}
	text, err := os.ReadFile("../../../docs/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Deliveries\n")
	section, _, _ = strings.Cut(section, "\n## ")
	scripts, answers := fenced(section, "sh"), fenced(section, "json")
	if len(scripts) != 4 || len(answers) != len(scripts) {
		t.Fatalf("the page has %d scripts and %d answers, want 4 of each", len(scripts), len(answers))
	}

	const sources = `
sources:
  github:
    verify: github
    secrets: secret
    retain: 72h
    rules:
      - name: review
        to: { users: "body.pull_request.REVIEWERS.map(r, string(r.id))" }
        event: '"review.requested"'
        data: '{"title": body.pull_request.title}'
`
	var r *rig
	for i, one := range scripts {
		if i%2 == 0 { // something is parked, and its rule repaired when that was seen
			r = newRig(t)
			r.load(strings.Replace(sources, "REVIEWERS", "requested_reviewers", 1))
			r.set(func() { r.clock = time.Date(2026, 11, 22, 9, 30, 0, 0, time.UTC) })
			deliveryOf(t, r.github("72d3162e-cc78-11e3-81ab-4c9367dc0958", "secret",
				`{"action":"review_requested","requested_reviewer":{"id":42},"pull_request":{"title":"Speak plainly","reviewers":[{"id":42}]}}`))
			r.later(15 * time.Hour)
		}
		if i > 0 {
			r.load(strings.Replace(sources, "REVIEWERS", "reviewers", 1))
		}
		server := httptest.NewServer(r.h)
		out := script(t, t.TempDir(), []string{"KEY=sesame"}, strings.ReplaceAll(one, "http://127.0.0.1:8702", server.URL))
		server.Close() // before the sources change
		sameShape(t, one, values(t, out), values(t, answers[i]))
	}
}

// values reads JSON values that follow one another.
func values(t *testing.T, text string) (list []any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	for {
		var v any
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		list = append(list, v)
	}
}

// sameShape reports where an answer and what the page shows of it differ: in
// their fields, and in texts that the page does not cut short.
func sameShape(t *testing.T, where string, got, want any) {
	t.Helper()
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(w) {
			t.Errorf("%s answers %v where the page shows %v", where, got, want)
			return
		}
		for name := range w {
			sameShape(t, where, g[name], w[name])
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			t.Errorf("%s answers %v where the page shows %v", where, got, want)
			return
		}
		for i := range w {
			sameShape(t, where, g[i], w[i])
		}
	case string:
		begins, _, cut := strings.Cut(w, "…")
		if g, ok := got.(string); !ok || g != w && !(cut && strings.HasPrefix(g, begins)) && w != "192.0.2.1" {
			t.Errorf("%s answers %v where the page shows %v", where, got, want)
		}
	case float64: // sizes are those of other bodies
		if _, ok := got.(float64); !ok {
			t.Errorf("%s answers %v where the page shows %v", where, got, want)
		}
	default:
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s answers %v where the page shows %v", where, got, want)
		}
	}
}
