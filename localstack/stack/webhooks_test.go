package stack

import (
	"net/http"
	"strings"
	"testing"
)

// TestGitHubSecret: the stack's own secret stands in for GITHUB_SECRET, and
// whoever sets that means theirs.
func TestGitHubSecret(t *testing.T) {
	for name, tt := range map[string]struct{ environment, want string }{
		"the stack's own":    {"", "of the stack"},
		"of the environment": {"of my own", "of my own"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("GITHUB_SECRET", tt.environment)
			keys := NewKeys()
			keys.GitHub = "of the stack"
			s, err := Start(t.Context(), Config{Dir: t.TempDir(), Nodes: 1, Keys: keys})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			facts, err := s.Facts()
			if err != nil {
				t.Fatal(err)
			}
			if got := facts.Sources["github"].Secret; got != tt.want {
				t.Errorf("the facts tell the secret %q, want %q", got, tt.want)
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, facts.Sources["github"].URL, strings.NewReader(SampleWebhook))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-GitHub-Delivery", "d")
			req.Header.Set("X-Hub-Signature-256", SignGitHub(tt.want, SampleWebhook))
			req.Close = true // leave no connection behind
			answer, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusAccepted {
				t.Errorf("a webhook that is signed with it is answered %d, want 202", answer.StatusCode)
			}
		})
	}
}
