//go:build unix

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pushcluster/localstack/build"
	"pushcluster/shared/freeaddr"
	"pushcluster/shared/registry/registrytest"
	"pushcluster/shared/store/storetest"
)

// programs are the four programs, each a process of its own, and a second node:
// what runs in production, on one machine.
type programs struct {
	t             *testing.T
	bin           string
	env           map[string]string // of every process
	auth, collect string            // base URLs
	nodes         []*program
	apiKey        string
	refuse        atomic.Int32 // how many of the next hand-offs do not reach Dispatch
}

// A program is one process.
type program struct {
	url  string // base URL of its public port
	env  []string
	path string
	cmd  *exec.Cmd
	log  *bytes.Buffer
}

// buildPrograms builds the four programs and returns their directory.
func buildPrograms(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	root, err := build.Root()
	if err == nil {
		err = build.Programs(t.Context(), root, bin, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// startPrograms starts Auth, Collect, Dispatch and two nodes on the store at
// storeURL, and waits until all are ready.
func startPrograms(t *testing.T, bin, storeURL string) *programs {
	t.Helper()
	ps := &programs{t: t, bin: bin, apiKey: "an-api-key-of-the-test-0123456789"}
	ports := freePorts(t, 10)
	at := func(i int) string { return "127.0.0.1:" + ports[i] }
	ps.auth, ps.collect = "http://"+at(0), "http://"+at(1)
	ps.env = map[string]string{
		"SIGNING_SECRETS": "a-signing-secret-of-the-test-01234567", "API_KEYS": "test:" + ps.apiKey,
		"TOKEN_KEYS": "k1:HS256:a-token-secret-of-the-test-0123456789", "STORE_URL": storeURL,
		"REDIS_URL": registrytest.Redis(t).URL(), "AUTH_URL": ps.auth, "DISPATCH_URL": ps.between(at(2)),
		"DISPATCH_RPC_URL": "http://" + at(2), "DRAIN_TIME": "500ms", "LOG_LEVEL": "warn",
	}
	var all []*program
	for i, name := range []string{"auth", "collect", "dispatch", "pushnode", "pushnode"} {
		p := ps.start(name, at(i), at(i+5))
		all = append(all, p)
		if name == "pushnode" {
			ps.nodes = append(ps.nodes, p)
		}
	}
	for _, p := range all {
		p.awaitReady(t)
	}
	return ps
}

// between returns the URL of a proxy before Dispatch that answers what
// programs.refuse says with a 502.
func (ps *programs) between(dispatch string) string {
	through := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: dispatch})
	through.ErrorLog = log.New(io.Discard, "", 0)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/dispatch" && ps.refuse.Add(-1) >= 0 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		through.ServeHTTP(w, r)
	}))
	ps.t.Cleanup(proxy.Close)
	return proxy.URL
}

// freePorts returns n ports that nobody listens on at the moment.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	addrs, err := freeaddr.Take(n)
	if err != nil {
		t.Fatal(err)
	}
	ports := make([]string, n)
	for i, addr := range addrs {
		_, ports[i], _ = net.SplitHostPort(addr)
	}
	return ports
}

func (ps *programs) start(name, public, internal string) *program {
	ps.t.Helper()
	p := &program{url: "http://" + public, path: filepath.Join(ps.bin, name)}
	p.env = append(os.Environ(), "LISTEN="+public, "INTERNAL_LISTEN="+internal, "NODE_ADDR="+internal)
	for k, v := range ps.env {
		p.env = append(p.env, k+"="+v)
	}
	p.run(ps.t)
	return p
}

// run starts the process, again after it ended.
func (p *program) run(t *testing.T) {
	t.Helper()
	p.log = new(bytes.Buffer)
	p.cmd = exec.Command(p.path)
	p.cmd.Env, p.cmd.Stderr, p.cmd.Stdout = p.env, p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.end(t) })
}

// end stops the process as an operator does. It must end by itself, cleanly.
func (p *program) end(t *testing.T) {
	if p.cmd.ProcessState != nil {
		return
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(2*time.Minute, func() { p.cmd.Process.Kill() })
	err := p.cmd.Wait()
	late.Stop()
	if err != nil {
		t.Errorf("%s ended with %v; it said:\n%s", filepath.Base(p.path), err, p.log)
	}
}

// kill ends the process as a crash does.
func (p *program) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait() // its error is our signal
}

func (p *program) awaitReady(t *testing.T) {
	t.Helper()
	end := time.After(2 * time.Minute)
	for {
		resp, err := http.Get(p.url + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-end:
			p.kill()
			t.Fatalf("%s is not ready after 2 minutes; it said:\n%s", filepath.Base(p.path), p.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// call posts JSON with the API key and decodes the answer, which must have the
// status want.
func (ps *programs) call(url, body string, want int, answer any) {
	ps.t.Helper()
	ctx, cancel := context.WithTimeout(ps.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		ps.t.Fatal(err)
	}
	req.Header.Set("X-API-Key", ps.apiKey)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		ps.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want || json.Unmarshal(b, answer) != nil {
		ps.t.Fatalf("%s is answered %s %s %v, want %d", url, resp.Status, b, err, want)
	}
}

func (ps *programs) token(user string) string {
	ps.t.Helper()
	var answer struct{ Token string }
	ps.call(ps.auth+"/v1/tokens", fmt.Sprintf(`{"user":%q,"topics":["news"]}`, user), http.StatusCreated, &answer)
	return answer.Token
}

func (ps *programs) post(message string) {
	ps.t.Helper()
	var answer struct{ ID string }
	ps.call(ps.collect+"/v1/messages", message, http.StatusAccepted, &answer)
}

func TestFourProgramsOnFiveProcesses(t *testing.T) {
	bin := buildPrograms(t)
	stores := map[string]func(t *testing.T) string{
		"SQLite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "store.db") },
		"FerretDB": func(t *testing.T) string { return storetest.FerretDB(t) },
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			defer http.DefaultClient.CloseIdleConnections()
			ps := startPrograms(t, bin, open(t))
			phone := newPerson(t, ps.nodes[0].url, come{token: ps.token("42"), device: "phone"}).connected()
			desk := newPerson(t, ps.nodes[1].url, come{token: ps.token("42"), device: "desk", protobuf: true}).connected()
			other := newPerson(t, ps.nodes[1].url, come{token: ps.token("43")}).connected()
			other.follow("news")
			ps.post(`{"to":{"users":["42"]},"data":1}`)
			ps.post(`{"to":{"channels":["news"]},"data":2}`)
			ps.post(`{"to":{"all":true},"data":3}`)
			phone.await("messages 1 and 3", func() bool { return len(phone.received()) == 2 })
			desk.await("messages 1 and 3", func() bool { return len(desk.received()) == 2 })
			other.await("messages 2 and 3", func() bool { return len(other.received()) == 2 })

			phone.moveTo(ps.nodes[1].url)
			ps.nodes[0].kill()
			ps.post(`{"to":{"users":["42"]},"data":4}`)
			phone.await("message 4, on the other node", func() bool { return len(phone.received()) == 3 })
			desk.await("message 4", func() bool { return len(desk.received()) == 3 })
			ps.nodes[0].run(t)
			ps.nodes[0].awaitReady(t)

			// The first hand-off fails and waits for the sweep; those behind it
			// would go through.
			ps.refuse.Store(1)
			for n := 10; n < 14; n++ {
				ps.post(fmt.Sprintf(`{"to":{"users":["42"]},"data":%d}`, n))
			}
			for name, p := range map[string]*person{"phone": phone, "desk": desk} {
				p.await("messages 10 to 13", func() bool { return len(p.received()) >= 7 })
				if got := strings.Join(p.received()[3:], " "); got != "10 11 12 13" {
					t.Errorf("the %s received %q, want 10 to 13 in the order they were posted", name, got)
				}
			}

			phone.client.Close()
			ps.post(`{"to":{"users":["42"]},"data":5}`)
			again := newPerson(t, ps.nodes[0].url, come{token: ps.token("42"), device: "phone"}).connected()
			again.await("message 5, that came while away", func() bool {
				return slices.Contains(again.received(), "5") // what came to all may come behind it
			})
		})
	}
}
