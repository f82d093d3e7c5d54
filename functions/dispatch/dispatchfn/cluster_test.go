package dispatchfn_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/nodeclient"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
	"pushcluster/shared/store"
	"pushcluster/shared/store/sqlitestore"
)

func TestMain(m *testing.M) {
	registry.LogTo(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m)
}

const secret = "the secret of all the tests here"

func keys(t testing.TB) signature.Keys {
	t.Helper()
	k, err := signature.ParseKeys([]string{secret})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A cluster is Dispatch on a Redis and a store of its own.
type cluster struct {
	*dispatchfn.Handler
	t     testing.TB
	redis *registrytest.Server
	reg   *registry.Registry
	store store.Store
	prom  *prometheus.Registry
}

// What a test does not name is long, so that a machine that stalls breaks none.
const patience = time.Minute

// newNodes returns Dispatch's side of nodes, which has time to open connections.
func newNodes(t testing.TB, reg *registry.Registry, prom prometheus.Registerer) *nodeclient.Client {
	t.Helper()
	nodes := nodeclient.New(nodeclient.Config{ConnectTime: patience}, signature.NewSigner(keys(t)), reg.Now, prom)
	t.Cleanup(nodes.Close)
	return nodes
}

// newCluster starts a cluster. wrap, if not nil, stands between Dispatch and
// its store, to break what cannot be broken otherwise.
func newCluster(t testing.TB, cfg dispatchfn.Config, wrap func(*cluster, store.Store) dispatchfn.Store) *cluster {
	t.Helper()
	c := &cluster{t: t, redis: registrytest.Redis(t), prom: prometheus.NewRegistry()}
	st, err := sqlitestore.Open(filepath.Join(t.TempDir(), "store.db"), sqlitestore.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	if err := st.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.store = st
	if c.reg, err = registry.Open(c.redis.URL(), st, registry.Config{Timeout: 20 * time.Second, LeaseTime: patience}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.reg.Close() })
	nodes := newNodes(t, c.reg, c.prom)
	cfg.Deadline, cfg.PushTime, cfg.AskTime = cmp.Or(cfg.Deadline, patience), cmp.Or(cfg.PushTime, patience), cmp.Or(cfg.AskTime, patience)
	cfg.OutboxClaim = cmp.Or(cfg.OutboxClaim, patience)
	var used dispatchfn.Store = st
	if wrap != nil {
		used = wrap(c, st)
	}
	if c.Handler, err = dispatchfn.New(cfg, c.reg, used, nodes, slog.New(slog.DiscardHandler), c.prom); err != nil {
		t.Fatal(err)
	}
	return c
}

// A node is a push node that notes what it is told.
type node struct {
	t      testing.TB
	server *httptest.Server
	id     push.NodeID
	reg    *registry.Registry

	mu       sync.Mutex // guards what follows
	requests []push.DeliverRequest
	unknown  map[push.Channel]bool
	hang     chan struct{} // not nil: answer only when it is closed
}

func (c *cluster) node(routes ...registry.ChannelRoute) *node {
	c.t.Helper()
	n := &node{t: c.t, reg: c.reg, unknown: map[push.Channel]bool{}}
	n.server = httptest.NewServer(signature.Require(
		signature.NewVerifier(signature.VerifierConfig{Now: c.reg.Now}, keys(c.t)), 16<<20, http.HandlerFunc(n.deliver)))
	c.t.Cleanup(n.server.Close)
	n.id = push.NewNodeID(strings.TrimPrefix(n.server.URL, "http://"), "first")
	if _, err := c.reg.Grant(c.t.Context(), registry.Lease{Node: n.id}); err != nil {
		c.t.Fatal(err)
	}
	n.add(routes...)
	return n
}

func (n *node) add(routes ...registry.ChannelRoute) {
	n.t.Helper()
	if err := n.reg.AddRoutes(n.t.Context(), n.id, routes); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) deliver(w http.ResponseWriter, r *http.Request) {
	var req push.DeliverRequest
	if p := serve.Decode(w, r, 16<<20, &req); p != nil {
		n.t.Errorf("the node got %v", p)
		serve.Problem(w, r, p)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if hang := n.hang; hang != nil {
		n.mu.Unlock()
		select {
		case <-hang:
		case <-r.Context().Done():
		}
		n.mu.Lock()
	}
	if req.Node != n.id {
		serve.Problem(w, r, push.NewProblem(push.CodeOtherNode, "this is %s", n.id))
		return
	}
	n.requests = append(n.requests, req)
	answer := push.DeliverAnswer{Node: n.id}
	for _, e := range req.Entries {
		if n.unknown[e.Channel] {
			answer.Unknown = append(answer.Unknown, e.Channel)
		}
	}
	serve.JSON(w, http.StatusOK, answer)
}

// got returns what the node was told so far: "channel:message@offset<prev" in
// order, offsets counted from 1 in the order they were first seen.
func (n *node) got() []push.Entry {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []push.Entry
	for _, req := range n.requests {
		for _, e := range req.Entries {
			list = append(list, push.Entry{Channel: e.Channel, Offset: e.Offset, Prev: e.Prev, Message: &req.Messages[e.Message]})
		}
	}
	return list
}

func names(entries []push.Entry) string {
	var list []string
	for _, e := range entries {
		list = append(list, fmt.Sprintf("%s:%s", e.Channel, e.Message.ID))
	}
	return strings.Join(list, " ")
}

func (n *node) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.requests)
}

func route(c push.Channel, registration int64) registry.ChannelRoute {
	return registry.ChannelRoute{Channel: c, Registration: registration}
}

func message(id string, to push.Recipients) *push.Message {
	now := time.Now()
	return &push.Message{ID: push.MessageID(id), To: to, Data: json.RawMessage(`"` + id + `"`),
		CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
}

func toUsers(users ...push.UserID) push.Recipients { return push.Recipients{Users: users} }

// send dispatches messages that must all be confirmed.
func (c *cluster) send(again bool, messages ...*push.Message) {
	c.t.Helper()
	for i, p := range c.Dispatch(c.t.Context(), messages, again) {
		if p != nil {
			c.t.Fatalf("message %s: %v", messages[i].ID, p)
		}
	}
}

// insert stores messages, which reading the inbox with them needs.
func (c *cluster) insert(messages ...*push.Message) {
	c.t.Helper()
	var records []store.Record
	for _, m := range messages {
		records = append(records, store.Record{Message: *m})
	}
	if _, err := c.store.InsertMessages(c.t.Context(), records); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) log(ch push.Channel) []push.Entry {
	c.t.Helper()
	p, err := c.reg.ReadLog(c.t.Context(), registry.LogQuery{Channel: ch})
	if err != nil {
		c.t.Fatal(err)
	}
	return p.Entries
}

// inbox returns where the inbox has a message, 0 for nowhere.
func (c *cluster) inbox(ch push.Channel, id push.MessageID) push.Offset {
	c.t.Helper()
	at, err := c.store.PlacedAt(c.t.Context(), id, []push.Channel{ch})
	if err != nil {
		c.t.Fatal(err)
	}
	return at[ch]
}

// routes returns the routes of a channel, as the next message finds them.
func (c *cluster) routes(ch push.Channel) string {
	c.t.Helper()
	a, err := c.reg.Append(c.t.Context(), []registry.Item{{Channel: ch, Message: message("probe", push.Recipients{}), Asked: true}})
	if err != nil || a.Items[0].Err != nil {
		c.t.Fatal(err, a)
	}
	var list []string
	for _, r := range a.Items[0].Routes {
		list = append(list, fmt.Sprintf("%s/%d", r.Node, r.Registration))
	}
	return strings.Join(list, " ")
}

// metric returns the value of a counter whose label is value.
func (c *cluster) metric(name, value string) float64 {
	c.t.Helper()
	families, err := c.prom.Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if value == "" && len(m.GetLabel()) == 0 || len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == value {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// A faultyStore runs a function before a write to the inbox.
type faultyStore struct {
	dispatchfn.Store
	before func() error
}

func (s faultyStore) WriteInbox(ctx context.Context, entries []store.InboxEntry) ([]store.Placement, error) {
	if err := s.before(); err != nil {
		return nil, err
	}
	return s.Store.WriteInbox(ctx, entries)
}
