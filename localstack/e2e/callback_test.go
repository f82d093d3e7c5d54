package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"pushcluster/localstack/stack"
)

// GitHub's webhook reaches the phone of user 42, and whoever set the source up is
// told so once, signed as the library of Standard Webhooks expects it.
func TestCallbackSaysThatAPersonHasIt(t *testing.T) {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	type told struct {
		Type string
		Data struct{ ID, Source, Channel, User, Device, State string }
	}
	calls := make(chan told, 16)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = verifier.Verify(body, r.Header)
		}
		var got told
		if err == nil {
			err = json.Unmarshal(body, &got)
		}
		if err != nil {
			t.Errorf("a callback: %v", err)
		}
		calls <- got
	}))
	t.Cleanup(receiver.Close)

	dir := t.TempDir()
	sources := `sources:
  github:
    verify: github
    secrets: [env:GITHUB_SECRET]
    callback: {url: "` + receiver.URL + `/told", secrets: [` + secret + `]}
    rules:
      - name: review
        to: { users: "body.pull_request.requested_reviewers.map(r, string(r.id))" }
        data: body.pull_request.title
`
	if err := os.WriteFile(filepath.Join(dir, "sources.yaml"), []byte(sources), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, func(cfg *stack.Config) { cfg.Dir = dir })
	facts, err := s.Facts()
	if err != nil {
		t.Fatal(err)
	}
	newPerson(t, s.Node(0).URL, come{token: tokenOf(t, s, stack.DemoUser), device: "phone"}).connected()
	if status, answer := hook(t, s, "d-1", facts.Sources["github"].Secret, stack.SampleWebhook); status != 202 {
		t.Fatalf("the webhook is answered %d %s, want 202", status, answer)
	}
	select {
	case got := <-calls:
		if got.Type != "message.received" || got.Data.ID != "github/d-1/review" || got.Data.Source != "github" || got.Data.Channel != "#42" ||
			got.Data.User != "42" || got.Data.Device != "phone" || got.Data.State != "received" {
			t.Errorf("the source is told %+v", got)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("the source was told nothing within 2 minutes")
	}
	// What comes again is a repeat, and begins nothing anew.
	if status, answer := hook(t, s, "d-1", facts.Sources["github"].Secret, stack.SampleWebhook); status != 202 || !strings.Contains(answer, "github/d-1/review") {
		t.Fatalf("the repeat is answered %d %s", status, answer)
	}
	if len(calls) > 0 {
		t.Errorf("the source is told %+v besides", <-calls)
	}
}
