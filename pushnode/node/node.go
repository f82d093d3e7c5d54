// Package node is a push node: it holds WebSocket connections of the Centrifugo
// client protocol v2, keeps the order of what they are given (package hub), and
// tells the cluster by lease and routes which channels it serves.
package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"pushcluster/pushnode/hub"
	"pushcluster/pushnode/loop"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/store"
	"pushcluster/shared/telemetry"
)

// A Config sets a node's limits and paces. Zero values mean the defaults.
type Config struct {
	ID      push.NodeID // required; new at every start
	Version string      // told to clients; default "pushcluster"
	Build   string      // told to operators: the program's version; default "unknown"
	Origins []string    // page origins allowed besides the node's own, as scheme://host[:port]; "*" allows all

	Sockets          Sockets       // who reads them; default SocketsBest
	MaxConnections   int           // default: no limit
	MaxSubscriptions int           // topics that one connection may subscribe to itself; default 128
	MaxFrame         int64         // bytes a client may send in one frame; default 64 KiB
	QueueBytes       int           // bytes that may wait for one connection; default 1 MiB
	PingInterval     time.Duration // default 25 s
	PongTimeout      time.Duration // default 8 s
	ConnectTimeout   time.Duration // from open to connect command; default 10 s
	CommandTimeout   time.Duration // for one command; below the clients' own 5 s; default 4.5 s
	FrameTimeout     time.Duration // for a frame to come whole; default 30 s
	WriteTimeout     time.Duration // for a full socket to take anything; default 10 s
	CloseTimeout     time.Duration // for a close frame to be taken and answered; default 5 s
	SlowTimeout      time.Duration // for a slow client to take its close frame, so that it learns why; default 30 s
	DrainTime        time.Duration // over which connections are closed at the end; default 20 s
	RenewEvery       time.Duration // pace of the lease; default 5 s
	BeatEvery        time.Duration // pace of comparing positions; default 30 s
	InboxSettle      time.Duration // age at which the inbox alone is trusted while Redis is away; above Dispatch's 5 s for its write; default 10 s
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.PingInterval, 25*time.Second)
	set(&c.PongTimeout, 8*time.Second)
	set(&c.ConnectTimeout, 10*time.Second)
	set(&c.CommandTimeout, 4500*time.Millisecond)
	set(&c.FrameTimeout, 30*time.Second)
	set(&c.WriteTimeout, 10*time.Second)
	set(&c.CloseTimeout, 5*time.Second)
	set(&c.SlowTimeout, 30*time.Second)
	set(&c.DrainTime, 20*time.Second)
	set(&c.RenewEvery, 5*time.Second)
	set(&c.BeatEvery, 30*time.Second)
	set(&c.InboxSettle, 10*time.Second)
	if c.Version == "" {
		c.Version = "pushcluster"
	}
	if c.Build == "" {
		c.Build = "unknown"
	}
	if c.MaxSubscriptions == 0 {
		c.MaxSubscriptions = 128
	}
	if c.MaxFrame == 0 {
		c.MaxFrame = 64 << 10
	}
	if c.QueueBytes == 0 {
		c.QueueBytes = 1 << 20
	}
	return c
}

// A Verifier says whose token it is. Its errors wrap those of package verify.
type Verifier interface {
	Verify(ctx context.Context, token string) (push.Identity, error)
	Ready(ctx context.Context) error // nil if Auth answers
	// Revoke has tokens count no more from now on; Revoked reports whether a
	// token that was verified earlier is one of them.
	Revoke(r push.Revocation)
	Revoked(id *push.Identity) bool
	Tidy() // gives back what is not needed any more; called every few seconds
}

// NewID returns the id of a new node whose internal port others reach at addr
// (host:port).
func NewID(addr string) push.NodeID {
	return push.NewNodeID(addr, rand.Text()[:12])
}

// A Node is one push node.
type Node struct {
	cfg      Config
	verifier Verifier
	reg      *registry.Registry
	store    store.Store
	log      *slog.Logger
	metrics  *metrics
	hub      *hub.Hub
	history  *history
	cursors  *cursorWriter
	devices  *gatherer[store.UserDevice, []store.Cursor] // asks the store for devices' cursors
	trimmer  *trimmer
	routes   *routeRemover
	streams  *streams
	started  time.Time
	epoch    string // set by Run before the first connection

	strangers strangers

	state   atomic.Int32
	renewed atomic.Value // time.Time when the lease was last known good; this process' own clock

	poller  *loop.Poller // set by Run before the first connection; nil: a goroutine reads each
	intakes [intakes]*intake

	commands atomic.Pointer[commandTime] // of those that begin now

	stop    context.CancelFunc // ends everything in the background
	bg      context.Context
	wg      sync.WaitGroup // all goroutines but those of Run
	workers workers
	guests  guests
	beaten  chan struct{} // asks for a beat now

	renewSoon chan struct{} // asks for a renewal of the lease now

	catchReads chan struct{} // holds a token for each catch-up that reads

	mu      sync.Mutex   // guards what follows
	public  net.Listener // set by Serve
	clients []*client
	users   map[push.UserID]*client // the first of those that connected; the others are linked to it
}

// The states of a node.
const (
	stateNew int32 = iota
	stateServing
	stateDraining
)

// New returns a node that [Node.Run] brings to life. It does no I/O.
func New(cfg Config, verifier Verifier, reg *registry.Registry, st store.Store, log *slog.Logger, prom prometheus.Registerer) (*Node, error) {
	if cfg.ID.Addr() == "" {
		return nil, errors.New("node: Config.ID names no address")
	}
	n := &Node{
		cfg: cfg.withDefaults(), verifier: verifier, reg: reg, store: st, log: log, started: time.Now(),
		beaten:     make(chan struct{}, 1),
		catchReads: make(chan struct{}, readsAtOnce),
		renewSoon:  make(chan struct{}, 1),
		users:      make(map[push.UserID]*client),
	}
	for i := range n.intakes {
		n.intakes[i] = newIntake()
	}
	n.hub = hub.New(hub.Config{Now: reg.Now, Pass: n.passOver, Waited: func() { n.metrics.passWaits.Inc() }})
	n.metrics = newMetrics(prom, n)
	n.bg, n.stop = context.WithCancel(context.Background())
	n.history = &history{node: cfg.ID, reg: reg, store: st, metrics: n.metrics, settle: n.cfg.InboxSettle,
		lastOffsets: newGatherer(n.bg, n.work, st.LastOffsets, n.metrics.unasked.Inc),
		evictions:   newEvictionWatch(reg.Evicted, n.cfg.InboxSettle)}
	n.devices = newGatherer(n.bg, n.work, n.loadCursors, n.metrics.unasked.Inc)
	n.cursors = newCursorWriter(st, log, n.metrics)
	n.trimmer = &trimmer{store: st, now: n.now, log: log, metrics: n.metrics, wake: make(chan struct{}, 1)}
	n.streams = newStreams(prom)
	n.routes = &routeRemover{node: cfg.ID, reg: reg, log: log, metrics: n.metrics, wake: make(chan struct{}, 1),
		removals: telemetry.Lapse{What: "removal of routes"}}
	n.workers.running = &n.wg
	return n, nil
}

// now returns the time by the cluster's one clock, Redis', which may jump with
// it. What one process waits for alone goes by time.Now and its monotonic part.
func (n *Node) now() time.Time { return n.reg.Now() }

// background returns the context of what outlives a request. It ends with Run.
func (n *Node) background() context.Context { return n.bg }

// Run takes the lease, serves until ctx ends, then drains: see [Node.drain].
// It returns nil after a drain, else why the node could not go on. When it
// returns, no goroutine of the node is left, nor is a request under way: a command
// that comes with the end, and the answer to it, has CommandTimeout and 5 s.
func (n *Node) Run(ctx context.Context) error {
	defer n.wg.Wait()
	defer n.workers.end()
	defer n.guests.end()  // what they ask for may start what is waited for
	defer n.streams.end() // and so may what these bring
	defer n.stop()
	epoch, err := n.store.Epoch(ctx)
	if err != nil {
		return fmt.Errorf("read epoch: %w", err)
	}
	n.epoch = epoch
	if err := n.openPoller(); err != nil {
		return err
	}
	if err := n.grant(ctx); err != nil {
		n.closePoller()
		return fmt.Errorf("take lease: %w", err)
	}
	n.state.Store(stateServing)
	n.log.Info("node serves", "node", n.cfg.ID)
	g, gctx := errgroup.WithContext(n.bg)
	if n.poller != nil {
		g.Go(func() error { return n.poller.Run(gctx) })
	}
	g.Go(func() error { return n.tick(gctx) })
	g.Go(func() error { return n.keepLease(gctx) })
	g.Go(func() error { return n.beat(gctx) })
	g.Go(func() error { return n.cursors.run(gctx) })
	g.Go(func() error { return n.trimmer.run(gctx) })
	g.Go(func() error { return n.routes.run(gctx) })
	select {
	case <-ctx.Done():
	case <-gctx.Done():
	}
	n.drain()
	n.stop()
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// holdsLease returns nil if the cluster sends this node what it should get: it
// holds its lease and is not draining.
func (n *Node) holdsLease(context.Context) error {
	switch n.state.Load() {
	case stateNew:
		return errors.New("not taken yet")
	case stateDraining:
		return errors.New("draining")
	}
	if age := time.Since(n.renewed.Load().(time.Time)); age > 3*n.cfg.RenewEvery {
		return fmt.Errorf("not renewed for %s", age.Round(time.Second))
	}
	return nil
}

// enroll records that c is a connection of the identity's user, whose personal
// channel is named too. It reports false if the node drains, or if the token was revoked since it was verified.
func (n *Node) enroll(c *client, identity *push.Identity, personal push.Channel) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.rights = rightsOf(identity)
	c.user, _ = personal.User()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state.Load() != stateServing {
		return false
	}
	if first := n.users[c.user]; first != nil {
		c.next, first.prev = first, c
	}
	n.users[c.user] = c
	// An order to close revoked connections tells the verifier first: either it
	// finds this one, or this one finds that its token was revoked.
	return !n.verifier.Revoked(identity)
}

// admit takes a new connection in, unless the node drains or is full.
func (n *Node) admit(c *client) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state.Load() != stateServing || n.cfg.MaxConnections > 0 && len(n.clients) >= n.cfg.MaxConnections {
		return false
	}
	c.place = len(n.clients)
	n.clients = append(n.clients, c)
	return true
}

// forget removes what admit and enroll recorded.
func (n *Node) forget(c *client) {
	c.mu.Lock()
	user := c.user
	c.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	end := len(n.clients) - 1
	if end < c.place || n.clients[c.place] != c {
		return // was not admitted
	}
	n.clients[c.place] = n.clients[end]
	n.clients[c.place].place = c.place
	n.clients[end] = nil
	n.clients = n.clients[:end]
	switch {
	case c.prev != nil:
		c.prev.next = c.next
	case n.users[user] == c && c.next != nil:
		n.users[user] = c.next
	case n.users[user] == c:
		delete(n.users, user)
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.next, c.prev = nil, nil // whoever still has c is not to keep the others
}

// clientsOf returns the user's connections.
func (n *Node) clientsOf(user push.UserID) []*client {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []*client
	for c := n.users[user]; c != nil; c = c.next {
		list = append(list, c)
	}
	return list
}

func (n *Node) connections() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.clients)
}

func (n *Node) allClients() []*client {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.clients)
}

// passOver calls step until it reports false, on a goroutine of its own. Others
// have their turn between two steps, however long it takes.
func (n *Node) passOver(step func() bool) {
	n.spawn(func() {
		for step() {
			runtime.Gosched()
		}
	})
}

// unsubscribe ends a subscription and, with the channel's last, its route.
func (n *Node) unsubscribe(sub *hub.Subscription) {
	if n.hub.Unsubscribe(sub) {
		ch := sub.Channel()
		n.routes.remove(registry.ChannelRoute{Channel: ch.Name(), Registration: ch.Registration()})
	}
}
