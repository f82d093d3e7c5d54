package e2e

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// TestPushctl plays the stories of testdata/pushctl, each in a directory of its
// own beside the stack.json of one running system, as somebody beside make run
// would.
func TestPushctl(t *testing.T) {
	sg := newStage(t)
	facts, err := os.ReadFile(filepath.Join(sg.dir, ".local", "stack.json"))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("story", func(t *testing.T) { // ends when all that run beside one another have
		testscript.Run(t, testscript.Params{
			Dir: "testdata/pushctl",
			Setup: func(env *testscript.Env) error {
				env.Setenv("GORACE", os.Getenv("GORACE"))
				env.Setenv("KEY", sg.facts.APIKey)
				env.Setenv("COLLECT", sg.facts.Collect)
				env.Setenv("AUTH", sg.facts.Auth)
				env.Setenv("NODE", sg.facts.Nodes[0].Public)
				local := filepath.Join(env.WorkDir, ".local")
				if err := os.Mkdir(local, 0o700); err != nil {
					return err
				}
				return os.WriteFile(filepath.Join(local, "stack.json"), facts, 0o600)
			},
			Cmds: map[string]func(*testscript.TestScript, bool, []string){
				"eventually": eventually,
				"park":       sg.park,
				"parkback":   sg.parkCallback,
				"hook":       sg.hook,
			},
			RequireExplicitExec: true,
			RequireUniqueNames:  true,
		})
	})
}

// eventually runs a program until what it prints matches a pattern:
//
//	eventually PATTERN PROGRAM ARGUMENTS…
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually PATTERN PROGRAM ARGUMENTS…")
	}
	pattern := regexp.MustCompile(args[0])
	deadline := time.After(time.Minute)
	for {
		err := ts.Exec(args[1], args[2:]...)
		got := ts.ReadFile("stdout")
		if err == nil && pattern.MatchString(got) {
			return
		}
		select {
		case <-deadline:
			ts.Fatalf("%q does not come; at last it was %v:\n%s%s", args[0], err, got, ts.ReadFile("stderr"))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// park parks messages that were scheduled, as Dispatch does with what fails:
//
//	park ID REASON
func (sg *stage) park(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: park ID REASON")
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	entry := store.ParkedEntry{Message: push.MessageID(args[0]), Attempts: 12, Reason: strings.TrimSpace(args[1]), At: now, Until: now.Add(time.Hour)}
	ts.Check(sg.Store.ParkOutbox(context.Background(), []store.ParkedEntry{entry}))
}

// parkCallback parks the callback of a message, as is done with what has failed
// for a day:
//
//	parkback ID REASON
func (sg *stage) parkCallback(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: parkback ID REASON")
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	source, _, _ := strings.Cut(args[0], "/")
	ts.Check(sg.Store.PutCallbacks(context.Background(), []store.Callback{{Message: push.MessageID(args[0]), Source: source,
		State: store.CallbackParked, DueAt: now, Attempts: 150, FailingSince: now.Add(-25 * time.Hour), Reason: args[1], Until: now.Add(time.Hour)}}))
}

// hook posts a webhook to a source whose preset is gitlab and whose secret is
// "sesame":
//
//	hook SOURCE DELIVERY FILE
func (sg *stage) hook(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: hook SOURCE DELIVERY FILE")
	}
	req, err := http.NewRequest(http.MethodPost, sg.facts.Collect+"/v1/webhooks/"+args[0], strings.NewReader(ts.ReadFile(args[2])))
	ts.Check(err)
	req.Header.Set("X-Gitlab-Token", "sesame")
	req.Header.Set("Idempotency-Key", args[1])
	req.Header.Set("Content-Type", "application/json")
	req.Close = true // leave no connection behind
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	resp.Body.Close()
	if accepted := resp.StatusCode == http.StatusAccepted; accepted == neg {
		ts.Fatalf("the webhook is answered %s", resp.Status)
	}
}
