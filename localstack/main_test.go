package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/localstack/stack"
	"pushcluster/shared/serve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// freePorts is an environment that moves every port to a free one.
func freePorts(dir string) map[string]string {
	env := map[string]string{"LOCAL_DIR": dir}
	for _, name := range []string{"PAGE", "AUTH", "COLLECT", "DISPATCH", "NODE"} {
		env[name+"_PORT"], env[name+"_INTERNAL_PORT"] = "0", "0"
	}
	return env
}

// A localstack is a run of the program in this process.
type localstack struct {
	said string // what it printed until it was ready
	stop func() error
}

func begin(t *testing.T, env map[string]string) localstack {
	t.Helper()
	cfg, err := serve.Load[Config](t.Context(), func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out, stdout := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, cfg, stdout, t.Output())
		stdout.Close()
		done <- err
	}()
	var said strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "Ctrl-C stops it." {
		said.WriteString(lines.Text() + "\n")
	}
	stop := sync.OnceValue(func() error {
		cancel()
		io.Copy(io.Discard, out)
		return <-done
	})
	t.Cleanup(func() { stop() }) // of a test that ends early
	return localstack{said.String(), stop}
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	env := freePorts(dir)
	l := begin(t, env)
	facts, err := stack.ReadFacts(filepath.Join(dir, "stack.json"))
	if err != nil {
		t.Fatalf("no facts once it is ready: %v; it said:\n%s", err, l.said)
	}
	if len(facts.Nodes) != 2 {
		t.Errorf("%d nodes, want 2", len(facts.Nodes))
	}
	for _, want := range []string{facts.Page, facts.Auth, facts.Collect, facts.Dispatch, stack.WebSocketURL(facts.Nodes[1].Public), facts.Token} {
		if !strings.Contains(l.said, want) {
			t.Errorf("it does not tell %s; it said:\n%s", want, l.said)
		}
	}
	id := curl(t, l.said)

	began := time.Now()
	if err := l.stop(); err != nil {
		t.Errorf("run = %v after it was told to stop", err)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %s to stop, more than 15 s", took)
	}
	if _, err := os.Stat(filepath.Join(dir, "stack.json")); !os.IsNotExist(err) {
		t.Errorf("the facts are still there when it has stopped: %v", err)
	}

	// The next start has the same keys, and the messages.
	l = begin(t, env)
	defer l.stop()
	again, err := stack.ReadFacts(filepath.Join(dir, "stack.json"))
	if err != nil {
		t.Fatal(err)
	}
	if again.APIKey != facts.APIKey {
		t.Error("the API key is another after a restart")
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", again.Collect+"/v1/messages/"+id, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-Key", again.APIKey)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("message %s is answered %s after a restart, want 200", id, resp.Status)
	}
}

// curl pastes the printed line into a shell and returns the id of the message.
func curl(t *testing.T, said string) string {
	t.Helper()
	for _, program := range []string{"curl", "sh"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("skipped: %s is not on PATH", program)
		}
	}
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "curl ") {
			out, err := exec.CommandContext(t.Context(), "sh", "-c", line).Output()
			var answer struct{ ID string }
			if err != nil || json.Unmarshal(out, &answer) != nil || answer.ID == "" {
				t.Fatalf("%s answers %s, %v", line, out, err)
			}
			return answer.ID
		}
	}
	t.Fatalf("it prints no curl line:\n%s", said)
	return ""
}

// Where a file of sources is named that has no github, nobody is told to post
// a webhook of it.
func TestOtherSources(t *testing.T) {
	const other = "sources:\n  shop:\n    verify: gitlab\n    secrets: [env:SHOP_SECRET]\n    rules: [{ to: { users: body.user } }]\n"
	t.Setenv("SHOP_SECRET", "sesame")
	file := filepath.Join(t.TempDir(), "other.yaml")
	if err := os.WriteFile(file, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	for sources, want := range map[string]bool{"": true, file: false} {
		env := freePorts(t.TempDir())
		env["SOURCES"] = sources
		l := begin(t, env)
		if err := l.stop(); err != nil {
			t.Errorf("SOURCES=%q: run = %v", sources, err)
		}
		if got := strings.Contains(l.said, "/v1/webhooks/github"); got != want {
			t.Errorf("SOURCES=%q: a webhook of github is printed: %t, want %t; it said:\n%s", sources, got, want, l.said)
		}
	}
}

// A second one in the same place says that there is a first, and leaves it alone,
// whichever ports it has.
func TestTwoAtOnce(t *testing.T) {
	dir := t.TempDir()
	env := freePorts(dir)
	first := begin(t, env)
	defer func() {
		if err := first.stop(); err != nil {
			t.Errorf("run of the first = %v", err)
		}
	}()
	facts, err := stack.ReadFacts(filepath.Join(dir, "stack.json"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{"other ports": env["PAGE_PORT"], "the same port": facts.Page[strings.LastIndexByte(facts.Page, ':')+1:]}
	for name, port := range tests {
		t.Run(name, func(t *testing.T) {
			env := maps.Clone(env)
			env["PAGE_PORT"] = port
			cfg, err := serve.Load[Config](t.Context(), func(name string) string { return env[name] })
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
			defer cancel()
			err = run(ctx, cfg, io.Discard, t.Output())
			if err == nil || !strings.Contains(err.Error(), "page at "+facts.Page) || !strings.Contains(err.Error(), "LOCAL_DIR") {
				t.Errorf("run beside another = %v, want that it runs at %s, and LOCAL_DIR", err, facts.Page)
			}
			if now, err := stack.ReadFacts(filepath.Join(dir, "stack.json")); err != nil || now.Page != facts.Page {
				t.Errorf("the facts of the first are %+v, %v, want them as they were", now, err)
			}
		})
	}
}

// One that is told to stop while it starts ends as one that runs does: it has not
// failed, whatever did not come to its end.
func TestStopWhileItStarts(t *testing.T) {
	env := freePorts(t.TempDir())
	cfg, err := serve.Load[Config](t.Context(), func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var said strings.Builder
	stdout := writer(func(p []byte) (int, error) {
		cancel() // it begins to start
		return said.Write(p)
	})
	if err := run(ctx, cfg, stdout, t.Output()); err != nil {
		t.Errorf("run = %v, want nil after it was told to stop", err)
	}
	if want := "pushcluster starts … stopped before it was ready\n"; said.String() != want {
		t.Errorf("it says %q, want %q", said.String(), want)
	}
}

// A writer is a function that is written to.
type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// What one that was killed has left is gone when the next one has ended.
func TestStaleFacts(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "stack.json")
	if err := (stack.Facts{Page: "http://127.0.0.1:1"}).Write(path); err != nil {
		t.Fatal(err)
	}
	env := freePorts(dir)
	env["SOURCES"] = filepath.Join(dir, "none.yaml")
	cfg, err := serve.Load[Config](t.Context(), func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), cfg, io.Discard, t.Output()); err == nil {
		t.Error("run without its sources = nil, want an error")
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the facts of a stack that is gone are still there: %v", err)
	}
}

func TestConfig(t *testing.T) {
	tests := map[string]struct {
		env  map[string]string
		want []string // what the error names; none: no error
	}{
		"nothing set":   {nil, nil},
		"five nodes":    {map[string]string{"NODES": "5"}, nil},
		"no nodes":      {map[string]string{"NODES": "-1"}, []string{"NODES"}},
		"an origin":     {map[string]string{"ORIGINS": "http://localhost:3000/"}, nil},
		"no origin":     {map[string]string{"ORIGINS": "localhost:3000"}, []string{"ORIGINS"}},
		"several wrong": {map[string]string{"PAGE_PORT": "x", "LOG_LEVEL": "LOUD"}, []string{"PAGE_PORT", "LOG_LEVEL"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := serve.Load[Config](t.Context(), func(name string) string { return tt.env[name] })
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("Load = %v, want an error that names %q", err, tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Load = %v, without %s", err, want)
				}
			}
		})
	}
}
