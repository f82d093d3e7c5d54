package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"pushcluster/localstack/stack"
	"pushcluster/shared/registry/registrytest"
)

// start starts a stack of two nodes for t on a Redis of its own, which is a
// redis-server where there is one, and stops it when t ends. Each of tune may
// change the configuration before.
func start(t *testing.T, tune ...func(*stack.Config)) *stack.Stack {
	t.Helper()
	cfg := stack.Config{Dir: t.TempDir(), RedisURL: registrytest.Redis(t).URL()}
	for _, f := range tune {
		f(&cfg)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := stack.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the stack: %v", err)
		}
	})
	return s
}

// post sends Collect one message, given as JSON, and returns its id.
func post(t *testing.T, s *stack.Stack, message string) string {
	t.Helper()
	var answer struct{ ID string }
	body := postBody(t, s, message)
	if err := json.Unmarshal(body, &answer); err != nil || answer.ID == "" {
		t.Fatalf("post %.200s is answered %s, want an id", message, body)
	}
	return answer.ID
}

// postAll sends Collect several messages at once.
func postAll(t *testing.T, s *stack.Stack, messages []string) {
	t.Helper()
	var answers []struct{ ID string }
	body := postBody(t, s, "["+strings.Join(messages, ",")+"]")
	if err := json.Unmarshal(body, &answers); err != nil || len(answers) != len(messages) {
		t.Fatalf("%d messages are answered %.200s", len(messages), body)
	}
	for i, a := range answers {
		if a.ID == "" {
			t.Fatalf("message %d of %d got no id: %.500s", i, len(messages), body)
		}
	}
}

// postBody posts to Collect and returns the answer's body, which must be a 202.
func postBody(t *testing.T, s *stack.Stack, body string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Collect.URL+"/v1/messages", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-Key", s.APIKey())
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
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("post %.200s is answered %s %.500s, want 202", body, resp.Status, answer)
	}
	return answer
}

// need returns the path of the first of names that is a program on this
// machine. Without one it skips t, or fails it with CI=true.
func need(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("none of %q is on PATH, and CI=true", names)
	}
	t.Skipf("skipped: none of %q is on PATH", names)
	return ""
}
