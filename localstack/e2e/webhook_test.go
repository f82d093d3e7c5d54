package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pushcluster/localstack/stack"
)

// hook posts body as GitHub does and returns status and answer.
func hook(t *testing.T, s *stack.Stack, delivery, secret, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Collect.URL+"/v1/webhooks/github", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	// What curl -d sends, too: the body is JSON all the same.
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-GitHub-Delivery", delivery)
	req.Header.Set("X-Hub-Signature-256", stack.SignGitHub(secret, body))
	req.Close = true // leave no connection behind
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

// GitHub asks user 42 for a review: a pull request's webhook arrives in their
// browser, once, whoever else signs it does not, and the rule may be edited.
func TestWebhookReachesAPerson(t *testing.T) {
	dir := t.TempDir()
	s := start(t, func(cfg *stack.Config) { cfg.Dir = dir })
	facts, err := s.Facts()
	if err != nil {
		t.Fatal(err)
	}
	secret := facts.Sources["github"].Secret
	p := newPerson(t, s.Node(0).URL, come{token: tokenOf(t, s, stack.DemoUser)}).connected()

	if status, answer := hook(t, s, "d-1", "a stranger's secret", stack.SampleWebhook); status != 401 {
		t.Fatalf("a forged webhook is answered %d %s, want 401", status, answer)
	}
	for range 2 { // GitHub sends again what it believes was lost
		if status, answer := hook(t, s, "d-1", secret, stack.SampleWebhook); status != 202 {
			t.Fatalf("the webhook is answered %d %s, want 202", status, answer)
		}
	}
	const first, edited = `{"title":"Speak plainly","url":"https://example.com/pull/1"}`, `{"title":"SPEAK PLAINLY","url":"https://example.com/pull/1"}`
	p.receives(first)

	file := filepath.Join(dir, "sources.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), `"title": body.pull_request.title`, `"title": body.pull_request.title.upperAscii()`, 1)
	// At once: half of a file may be all right, and have no sources.
	if err := os.WriteFile(file+".new", []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	// Nothing says when the file was read but what becomes of the next webhook.
	deadline := time.Now().Add(time.Minute)
	for n := 2; !slices.Contains(p.received(), edited); n++ {
		if status, answer := hook(t, s, fmt.Sprint("d-", n), secret, stack.SampleWebhook); status != 202 {
			t.Fatalf("the webhook is answered %d %s, want 202", status, answer)
		}
		if time.Now().After(deadline) {
			t.Fatal("the edited rule was not used within a minute")
		}
	}
}
