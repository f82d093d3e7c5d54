package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"pushcluster/pushnode/node"
	"pushcluster/pushnode/verify"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
	"pushcluster/shared/signature"
	"pushcluster/shared/store"
	"pushcluster/shared/store/sqlitestore"
)

// sockets is the way of reading that the tests' nodes use.
var sockets node.Sockets

// bothWays picks the tests that run a second time where the first time was with
// event loops: those of a connection's own life.
const bothWays = "Deliver|Handshake|BadInput|Error|Silent|Slow|Drain|Pong"

func TestMain(m *testing.M) {
	code := m.Run()
	run := flag.Lookup("test.run")
	if code == 0 && runtime.GOOS == "linux" && run.Value.String() == "" && !fuzzing() {
		sockets = node.SocketsGoroutine
		if err := run.Value.Set(bothWays); err != nil {
			panic(err)
		}
		code = m.Run()
	}
	if code == 0 {
		// go-redis' attempt to reach a Redis that is away sleeps for up to a second
		// after its pool was closed before it ends.
		if err := goleak.Find(goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// fuzzing reports whether the tests are there for a fuzz test.
func fuzzing() bool {
	return flag.Lookup("test.fuzz").Value.String() != "" || flag.Lookup("test.fuzzworker").Value.String() == "true"
}

// tokens verifies tokens of the form "USER" or "USER topic topic* +channel", where
// the server subscribes to a channel; some words stand for what can go wrong. A
// token is its own id.
type tokens struct {
	mu      sync.Mutex
	expires time.Time // of tokens that start with "short"
	away    bool
	revoked []push.Revocation
}

func (k *tokens) Verify(_ context.Context, token string) (push.Identity, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	user, topics, _ := strings.Cut(token, " ")
	switch {
	case k.away:
		return push.Identity{}, verify.ErrUnavailable
	case user == "bad":
		return push.Identity{}, verify.ErrInvalid
	case user == "expired":
		return push.Identity{}, verify.ErrExpired
	}
	identity := push.Identity{User: push.UserID(user), TokenID: token}
	for _, name := range strings.Fields(topics) {
		if channel, ok := strings.CutPrefix(name, "+"); ok {
			identity.Channels = append(identity.Channels, push.Channel(channel))
		} else {
			identity.Topics = append(identity.Topics, name)
		}
	}
	if short, ok := strings.CutPrefix(user, "short-"); ok {
		identity.User, identity.ExpiresAt = push.UserID(short), k.expires
	}
	return identity, nil
}

func (k *tokens) Revoke(r push.Revocation) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.revoked = append(k.revoked, r)
}

func (k *tokens) Revoked(id *push.Identity) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(k.revoked, func(r push.Revocation) bool { return r.Covers(id) })
}

func (k *tokens) Tidy() {}

func (k *tokens) Ready(context.Context) error { return nil }

// A cluster is nodes on one Redis and one store, with the part of Dispatch that
// the tests need.
type cluster struct {
	t      *testing.T
	redis  *registrytest.Server
	store  store.Store
	reg    *registry.Registry
	tokens *tokens
	keys   signature.Keys
	client *http.Client
	nodes  []*testNode
	number atomic.Int64
}

type testNode struct {
	*node.Node
	id     push.NodeID
	public *httptest.Server
	stop   func()
	deaf   atomic.Bool // deliveries do not arrive
	log    testLog
}

func newCluster(t *testing.T, cfg node.Config, nodes int) *cluster {
	t.Helper()
	c := &cluster{t: t, redis: registrytest.Redis(t), tokens: &tokens{}}
	st, err := sqlitestore.Open(filepath.Join(t.TempDir(), "store.db"), sqlitestore.Config{Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	c.store = st
	t.Cleanup(func() { st.Close() })
	if err := st.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.reg = c.registry()
	if c.keys, err = signature.ParseKeys([]string{"a-secret-of-the-tests-0123456789"}); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c.client = &http.Client{Transport: &signature.Transport{Signer: signature.NewSigner(c.keys), Base: transport}}
	for range nodes {
		c.start(cfg)
	}
	return c
}

func (c *cluster) registry() *registry.Registry {
	c.t.Helper()
	reg, err := registry.Open(c.redis.URL(), c.store, registry.Config{Timeout: patience})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { reg.Close() })
	return reg
}

// patience is how long the tests wait for what has no time of its own: a machine
// that is busy with others may stand still for seconds.
const patience = time.Minute

// start adds a node. Paces are quick unless cfg says otherwise, and what a busy
// machine could miss has long.
func (c *cluster) start(cfg node.Config) *testNode {
	c.t.Helper()
	var internal http.Handler
	n := &testNode{log: testLog{t: c.t}}
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.deaf.Load() {
			panic(http.ErrAbortHandler)
		}
		internal.ServeHTTP(w, r)
	}))
	cfg.ID = node.NewID(api.Listener.Addr().String())
	if cfg.RenewEvery == 0 {
		cfg.RenewEvery = 200 * time.Millisecond
	}
	if cfg.DrainTime == 0 {
		cfg.DrainTime = 50 * time.Millisecond
	}
	cfg.Sockets = sockets
	if cfg.CloseTimeout == 0 {
		cfg.CloseTimeout = patience
	}
	if cfg.CommandTimeout == 0 {
		cfg.CommandTimeout = patience
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = patience
	}
	log := slog.New(slog.NewTextHandler(&n.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var err error
	n.Node, err = node.New(cfg, c.tokens, c.registry(), c.store, log, prometheus.NewRegistry())
	if err != nil {
		c.t.Fatal(err)
	}
	n.id = cfg.ID
	internal = n.Internal(signature.NewVerifier(signature.VerifierConfig{}, c.keys))
	api.Start()
	n.public = httptest.NewUnstartedServer(n.Public())
	n.public.Listener = n.Front(n.public.Listener, n.Public())
	n.public.Start()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			c.t.Errorf("Run: %v", err)
		}
		n.public.Close()
		api.Close()
	})
	c.t.Cleanup(n.stop)
	c.nodes = append(c.nodes, n)
	eventually(c.t, "the node is ready", func() bool {
		resp, err := http.Get(n.public.URL + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return n
}

// testLog gives a node's log to the test's, and keeps it.
type testLog struct {
	t *testing.T

	mu   sync.Mutex // guards what follows
	text strings.Builder
}

func (l *testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// count returns how many times the log holds what.
func (l *testLog) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// eventually waits until ok holds, looking again and again.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.After(patience)
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-end:
			t.Fatalf("waited %s in vain until %s", patience, what)
		case <-look.C:
		}
	}
}

func (c *cluster) message(data string) push.Message {
	n := c.number.Add(1)
	now := time.Now().Truncate(time.Millisecond)
	return push.Message{
		ID: push.MessageID(fmt.Sprintf("test/%d", n)), Event: "test", Data: json.RawMessage(data),
		CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}
}

// send stores data for channel, appends it and tells the nodes, as Dispatch does.
func (c *cluster) send(channel push.Channel, data string) push.Offset {
	c.t.Helper()
	return c.sendMessage(channel, c.message(data))
}

func (c *cluster) sendMessage(channel push.Channel, m push.Message) push.Offset {
	c.t.Helper()
	a := c.place(channel, m)
	c.keep(channel, m, a)
	c.push(channel, m, a)
	return a.Offset
}

// place stores m and appends it to the channel's log.
func (c *cluster) place(channel push.Channel, m push.Message) registry.AppendedItem {
	c.t.Helper()
	ctx := context.Background()
	if _, err := c.store.InsertMessages(ctx, []store.Record{{Message: m, Fingerprint: "f"}}); err != nil {
		c.t.Fatal(err)
	}
	appended, err := c.reg.Append(ctx, items(channel, &m))
	if err != nil {
		c.t.Fatal(err)
	}
	a := appended.Items[0]
	if a.Err != nil {
		c.t.Fatal(a.Err)
	}
	return a
}

// keep writes the inbox.
func (c *cluster) keep(channel push.Channel, m push.Message, a registry.AppendedItem) {
	c.t.Helper()
	if _, err := c.store.WriteInbox(context.Background(), []store.InboxEntry{{
		Channel: channel, Offset: a.Offset, Message: m.ID, CollapseKey: m.CollapseKey, ExpiresAt: m.ExpiresAt,
	}}); err != nil {
		c.t.Fatal(err)
	}
}

// push tells the nodes.
func (c *cluster) push(channel push.Channel, m push.Message, a registry.AppendedItem) {
	c.t.Helper()
	for _, r := range a.Routes {
		c.post(r.Node, "/v1/node/deliver", push.DeliverRequest{Node: r.Node, Messages: []push.Message{m},
			Entries: []push.DeliverEntry{{Channel: channel, Offset: a.Offset, Prev: a.Prev}}})
	}
}

// post sends a signed request to a node; what goes wrong on the way does not
// matter to the caller.
func (c *cluster) post(id push.NodeID, path string, body any) []byte {
	b, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := c.client.Post("http://"+id.Addr()+path, "application/json", bytes.NewReader(b))
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	return answer
}

func items(channel push.Channel, m *push.Message) []registry.Item {
	return []registry.Item{{Channel: channel, Message: m, Asked: true}}
}
