package stack

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

func TestMain(m *testing.M) {
	registry.LogTo(slog.New(slog.DiscardHandler)) // some of the tests are about a Redis that is away
	// A closed pool of the client notices so within a second, if it looks for a Redis that is away.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

func start(t *testing.T, cfg Config) *Stack {
	t.Helper()
	cfg.Dir = t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return s
}

// lease reports whether Dispatch would find a lease of the node.
func lease(t *testing.T, s *Stack, n *Process) bool {
	t.Helper()
	reg, err := registry.Open(s.RedisURL(), s.Store, registry.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	nodes, err := reg.Nodes(t.Context(), []push.NodeID{n.NodeID()})
	if err != nil {
		t.Fatal(err)
	}
	_, ok := nodes[n.NodeID()]
	return ok
}

func answers(url string) bool {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url + "/healthz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func TestStopKillAndStart(t *testing.T) {
	s := start(t, Config{Nodes: 1, Node: node.Config{DrainTime: time.Millisecond}})
	for _, p := range []*Process{s.Auth, s.Collect, s.Dispatch, s.Page, s.Node(0)} {
		url := p.URL
		if !p.Running() || !answers(url) {
			t.Fatalf("%s does not answer at %s", p.Name, url)
		}
		if err := p.Stop(); err != nil {
			t.Errorf("Stop of %s = %v", p.Name, err)
		}
		if p.Running() || answers(url) {
			t.Errorf("%s answers at %s after Stop", p.Name, url)
		}
		if err := p.Start(t.Context()); err != nil {
			t.Fatalf("Start of %s again = %v", p.Name, err)
		}
		p.Kill()
		if p.Running() || answers(url) {
			t.Errorf("%s answers at %s after Kill", p.Name, url)
		}
		if err := p.Start(t.Context()); err != nil {
			t.Fatalf("Start of %s after Kill = %v", p.Name, err)
		}
		if p.URL != url || !answers(url) {
			t.Errorf("%s is back at %s, want it at %s", p.Name, p.URL, url)
		}
	}
	select {
	case err := <-s.failed:
		t.Errorf("a process that was told to stop counts as failed: %v", err)
	default:
	}
}

func TestLeaseOutlivesKillNotStop(t *testing.T) {
	s := start(t, Config{})
	stopped, killed := s.Node(0), s.Node(1)
	if err := stopped.Stop(); err != nil {
		t.Fatal(err)
	}
	killed.Kill()
	if lease(t, s, stopped) {
		t.Error("a node that was stopped has left its lease")
	}
	if !lease(t, s, killed) {
		t.Error("a node that was killed has no lease; a killed process could not have given it up")
	}
	if got := len(s.Nodes()); got != 0 {
		t.Errorf("%d nodes run, want none", got)
	}
	added, err := s.AddNode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := s.NodeURLs(); len(got) != 1 || got[0] != added.URL {
		t.Errorf("NodeURLs = %q, want that of the new node, %s", got, added.URL)
	}
}

func TestFlushRedis(t *testing.T) {
	tests := map[string]func(t *testing.T) string{
		"embedded": func(*testing.T) string { return "" },
		"by URL":   func(t *testing.T) string { return registrytest.Redis(t).URL() + "/0" },
	}
	for name, url := range tests {
		t.Run(name, func(t *testing.T) {
			s := start(t, Config{Nodes: 1, RedisURL: url(t), Node: node.Config{RenewEvery: time.Hour}})
			if !lease(t, s, s.Node(0)) {
				t.Fatal("the node has no lease")
			}
			if err := s.FlushRedis(t.Context()); err != nil {
				t.Fatal(err)
			}
			if lease(t, s, s.Node(0)) {
				t.Error("the lease is still there after FlushRedis")
			}
		})
	}
}

func TestTakenPorts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	_, err = Start(t.Context(), Config{Dir: t.TempDir(), Nodes: 1, Ports: Ports{Collect: port, NodeInternal: port}})
	if err == nil {
		t.Fatal("Start on a taken port succeeds")
	}
	for _, want := range []string{"COLLECT_PORT", "NODE_INTERNAL_PORT"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Start on taken ports = %v, without %s", err, want)
		}
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	const nowhere = "redis://127.0.0.1:1" // a port that nobody is given
	const notReady = "not ready: redis"
	var err error
	// Long enough for the store and for an answer of /readyz, on whatever machine.
	for patience := 3 * time.Second; err == nil || !strings.Contains(err.Error(), notReady); patience *= 2 {
		if patience > time.Minute {
			t.Fatalf("Start without Redis = %v, want that Redis is not ready", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err = Start(ctx, Config{Dir: t.TempDir(), RedisURL: nowhere})
		cancel()
		if err == nil || errors.Is(err, context.Canceled) {
			t.Fatalf("Start without Redis = %v, want that Redis is not ready, and no more", err)
		}
	}
}

func TestKeysAndFacts(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.json")
	first, err := LoadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := LoadKeys(path); err != nil || again != first {
		t.Errorf("LoadKeys again = %v, other keys or an error", err)
	}
	if err := os.WriteFile(path, []byte(`{"api":""}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeys(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("LoadKeys of broken keys = %v, want an error that names the file", err)
	}

	facts, file := Facts{Page: "http://127.0.0.1:1", Nodes: []NodeURLs{{"http://127.0.0.1:2", "http://127.0.0.1:3"}}}, filepath.Join(dir, "stack.json")
	if err := facts.Write(file); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the facts is %v, want 0600", info.Mode())
	}
	if got, err := ReadFacts(file); err != nil || got.Page != facts.Page || got.Nodes[0] != facts.Nodes[0] {
		t.Errorf("ReadFacts = %+v, %v, want %+v", got, err, facts)
	}
	for range 2 {
		if err := RemoveFacts(file); err != nil {
			t.Errorf("RemoveFacts = %v", err)
		}
	}
	if _, err := ReadFacts(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ReadFacts after RemoveFacts = %v, want that there is no file", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("%q is left behind", left)
	}
}
