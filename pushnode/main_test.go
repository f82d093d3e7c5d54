//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
	"pushcluster/shared/serve"
	"pushcluster/shared/store/sqlitestore"
)

// asProgram makes this test's binary be the program itself.
const asProgram = "PUSHNODE_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// A program is a push node in a process of its own, started as ECS does it.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	public string // host:port
	id     push.NodeID
	reg    *registry.Registry
	ended  chan error // gets what the process ended with
}

// startProgram starts a node that learns its address from ECS, drains over
// drain, and is ready.
func startProgram(t *testing.T, drain string) *program {
	t.Helper()
	auth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/auth/verify" {
			serve.JSON(w, http.StatusOK, push.Identity{User: "42"})
		}
	}))
	t.Cleanup(auth.Close)
	redis, storeURL := registrytest.Redis(t), filepath.Join(t.TempDir(), "store.db")
	st, err := sqlitestore.Open(storeURL, sqlitestore.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	if err := st.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, ended: make(chan error, 1)}
	if p.reg, err = registry.Open(redis.URL(), st, registry.Config{Timeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.reg.Close() })

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(self)
	p.cmd.Env = append(os.Environ(), asProgram+"=1", "LISTEN=127.0.0.1:0", "INTERNAL_LISTEN=127.0.0.1:0", "NODE_ADDR=",
		"HTTP_PROXY=http://127.0.0.1:1", "NO_PROXY=", "no_proxy=", // nobody is there: only what leaves the cluster is to ask it
		"ECS_CONTAINER_METADATA_URI_V4="+notLoopback(serveMetadata(t)), "AUTH_URL="+notLoopback(auth.URL), "REDIS_URL="+redis.URL(), "STORE_URL=sqlite:"+storeURL,
		"SIGNING_SECRETS=a-signing-secret-of-the-test-01234567", "DRAIN_TIME="+drain, "LOG_LEVEL=info")
	out, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	told := make(chan map[string]any, 64)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var line map[string]any
			if json.Unmarshal(lines.Bytes(), &line) == nil && (line["msg"] == "listening" || line["msg"] == "node serves") {
				told <- line
			}
		}
		close(told)
		p.ended <- p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill() // one that has ended does not mind
		for range told {
		}
	})
	for p.public == "" || p.id == "" {
		line, ok := <-told
		if !ok {
			t.Fatalf("the node does not start: %v", <-p.ended)
		}
		if line["port"] == "public" {
			p.public, _ = line["addr"].(string)
		}
		if id, ok := line["node"].(string); ok {
			p.id = push.NodeID(id)
		}
	}
	return p
}

// notLoopback returns an address of this machine that Go would ask a proxy for, as
// it does not for 127.0.0.1.
func notLoopback(base string) string { return strings.Replace(base, "127.0.0.1", "0.0.0.0", 1) }

// serveMetadata is the task metadata endpoint of a task whose network comes a
// moment after its start.
func serveMetadata(t *testing.T) string {
	t.Helper()
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "starting"
		if asked.Add(1) > 1 {
			name = "fargate"
		}
		http.ServeFile(w, r, filepath.Join("address/testdata/metadata", name+".json"))
	}))
	t.Cleanup(s.Close)
	return s.URL + "/v4/5c1f0e6b-2531612879"
}

// ready returns the status of the balancer's health check, 0 if there is no
// answer.
func (p *program) ready() int {
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + p.public + "/readyz")
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// awaitReady waits until the balancer's health check is answered 200: a machine
// that is busy with others may take longer than its probes have.
func (p *program) awaitReady() {
	p.t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(time.Minute); ; <-look.C {
		status := p.ready()
		if status == http.StatusOK {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("/readyz answers %d for a minute", status)
		}
	}
}

// connect opens a connection of user 42 and waits until it is one.
func (p *program) connect() *websocket.Conn {
	p.t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+p.public+"/connection/websocket", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { ws.Close() })
	ws.SetReadDeadline(time.Now().Add(time.Minute))
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"id":1,"connect":{"token":"x"}}`)); err != nil {
		p.t.Fatal(err)
	}
	if _, reply, err := ws.ReadMessage(); err != nil || !strings.Contains(string(reply), `"connect"`) {
		p.t.Fatalf("connect is answered %s %v", reply, err)
	}
	return ws
}

// closedWith reads to the end of ws and returns the code that it was closed
// with, 0 if it was cut off.
func closedWith(ws *websocket.Conn) int {
	for {
		if _, _, err := ws.ReadMessage(); err != nil {
			if e, ok := errors.AsType[*websocket.CloseError](err); ok {
				return e.Code
			}
			return 0
		}
	}
}

// terminate sends SIGTERM and wants the process to end by itself with 0 within
// most, and to leave no lease.
func (p *program) terminate(most time.Duration, meanwhile func()) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	meanwhile()
	select {
	case err := <-p.ended:
		if err != nil {
			p.t.Errorf("the node ended with %v, want 0", err)
		}
	case <-time.After(most):
		p.t.Fatalf("the node has not ended after %s", most)
	}
	leases, err := p.reg.Nodes(p.t.Context(), []push.NodeID{p.id})
	if err != nil || len(leases) > 0 {
		p.t.Errorf("it left these leases: %v %v", leases, err)
	}
}

// TestStoppedByECS stops a node in the two ways in which ECS does. ECS gives it
// 120 s (stopTimeout in template.yaml), the drain included.
func TestStoppedByECS(t *testing.T) {
	t.Run("SIGTERM at once, as by StopTask and for Spot", func(t *testing.T) {
		p := startProgram(t, "400ms")
		if got, want := p.id.Addr(), "10.0.2.106:"; !strings.HasPrefix(got, want) {
			t.Errorf("the node is at %s, want %s…, as ECS says", got, want)
		}
		p.awaitReady()
		var clients []*websocket.Conn
		for range 4 {
			clients = append(clients, p.connect())
		}
		p.terminate(20*time.Second, func() {
			if got := closedWith(clients[0]); got != 3001 {
				t.Errorf("the first client was closed with %d, want 3001", got)
			}
			// The balancer has not noticed: it asks, and sends one more here.
			if got := p.ready(); got != http.StatusServiceUnavailable {
				t.Errorf("/readyz answers %d while others are connected, want 503", got)
			}
			if ws, _, err := websocket.DefaultDialer.Dial("ws://"+p.public+"/connection/websocket", nil); err == nil {
				if got := closedWith(ws); got != 3001 {
					t.Errorf("one that came late was closed with %d, want 3001", got)
				}
				ws.Close()
			}
			for i, ws := range clients[1:] {
				if got := closedWith(ws); got != 3001 {
					t.Errorf("client %d was closed with %d, want 3001", i+1, got)
				}
			}
		})
	})
	t.Run("SIGTERM after the deregistration delay", func(t *testing.T) {
		p := startProgram(t, "60s")
		first, second := p.connect(), p.connect()
		// The balancer sends nobody here any more; the node does not know. One
		// client leaves by itself, the other is cut off when the delay is over.
		first.Close()
		p.awaitReady()
		second.NetConn().Close()
		began := time.Now()
		p.terminate(20*time.Second, func() {})
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("with nobody connected it took %s", took)
		}
	})
}
