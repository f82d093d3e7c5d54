package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/shared/push"
)

// Sizes of topics, in clients.
const (
	roomSize   = 50
	publicSize = 25
)

// quietEvery is how many users there are for each that the load leaves alone.
const quietEvery = 10

// A world is one scenario's cluster with everybody around it.
type world struct {
	opts    Options
	seed    uint64
	cluster *cluster
	ledger  *ledger
	clients []*client
	users   []push.UserID // whom the load is for
	quiet   []push.UserID // who get only what a scenario sends them
	topics  []push.Channel
	http    *http.Client // of the senders

	twice      atomic.Bool // every request of a sender is sent twice at once
	deliveries atomic.Int64
	retries    atomic.Int64
	banished   atomic.Int64 // clients that were told not to come back
	raced      atomic.Int64 // ends that the SDK told wrongly: see sdkRace
	closes     counts       // of connections, by code
	answers    counts       // of Collect, by status; 0: none
	ended      moments      // when connections ended

	begun    time.Time
	stopLoad context.CancelFunc
	giveUp   context.CancelFunc
	loading  sync.WaitGroup
}

// counts counts by number.
type counts struct {
	mu sync.Mutex
	of map[uint32]int
}

func (c *counts) add(k uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = make(map[uint32]int)
	}
	c.of[k]++
}

func (c *counts) get(k uint32) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[k]
}

func (c *counts) total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	total := 0
	for _, n := range c.of {
		total += n
	}
	return total
}

func (c *counts) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var keys []uint32
	for k := range c.of {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	s := ""
	for _, k := range keys {
		s += fmt.Sprintf(" %d×%d", c.of[k], k)
	}
	return s
}

// moments are times at which something happened.
type moments struct {
	mu sync.Mutex
	at []time.Time
}

func (m *moments) add() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at = append(m.at, time.Now())
}

func (m *moments) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.at)
}

// since returns the moments after the first n.
func (m *moments) since(n int) []time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.at[n:])
}

// newWorld starts a cluster and brings its clients in. The caller closes it.
func newWorld(ctx context.Context, opts Options, seed uint64, bin string, cfg clusterConfig) (*world, error) {
	dir, err := os.MkdirTemp(opts.Dir, "world")
	if err != nil {
		return nil, err
	}
	w := &world{
		opts: opts, seed: seed, ledger: newLedger(), begun: time.Now(), stopLoad: func() {}, giveUp: func() {},
		http: &http.Client{Timeout: 12 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	if w.cluster, err = newCluster(bin, dir, cfg); err != nil {
		return nil, err
	}
	if err := w.cluster.start(ctx); err != nil {
		w.close()
		return nil, err
	}
	if err := w.populate(ctx); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// random returns a source of chance of its own for each purpose, so that none
// of them disturbs the others.
func (w *world) random(purpose uint64) *rand.Rand { return rand.New(rand.NewPCG(w.seed, purpose)) }

// populate makes the clients and waits until all are connected. Of five users
// one has two clients; of three clients one has no device id.
func (w *world) populate(ctx context.Context) error {
	rooms := max(1, w.opts.Clients/roomSize)
	publics := max(1, w.opts.Clients/(2*publicSize))
	for i := range rooms {
		w.topics = append(w.topics, push.Channel(fmt.Sprintf("room:%d", i)))
	}
	for i := range publics {
		w.topics = append(w.topics, push.Channel(fmt.Sprintf("public:%d", i)))
	}
	for i := range w.opts.Clients {
		user := push.UserID(fmt.Sprintf("u%d", i))
		if i%6 == 5 {
			user = w.users[len(w.users)-1]
		} else {
			w.users = append(w.users, user)
		}
		device := push.Device(fmt.Sprintf("d%d", i))
		if i%3 == 2 {
			device = ""
		}
		var public []string
		if i%2 == 0 {
			public = []string{fmt.Sprintf("public:%d", i/2%publics)}
		}
		in := []push.Channel{push.Channel(fmt.Sprintf("room:%d", i%rooms))}
		slow := w.cluster.cfg.slow && i%slowEvery == 0
		if slow {
			in = append(in, slowRoom)
		}
		c, err := w.newClient(i, user, device, in, public)
		if err != nil {
			return err
		}
		c.slow = slow
		w.clients = append(w.clients, c)
	}
	all := w.users
	w.users = nil
	for i, user := range all {
		if i%quietEvery == 0 {
			w.quiet = append(w.quiet, user)
		} else {
			w.users = append(w.users, user)
		}
	}
	return w.bringIn(ctx, w.clients)
}

// bringIn connects clients, so many at a time, and waits until all are there.
func (w *world) bringIn(ctx context.Context, clients []*client) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for _, c := range clients {
		g.Go(func() error {
			if err := c.connect(); err != nil {
				return err
			}
			return w.await(gctx, 30*time.Second, c.name+" connected", c.whole)
		})
	}
	return g.Wait()
}

// await waits until ok holds, for at most limit.
func (w *world) await(ctx context.Context, limit time.Duration, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %v in vain: %s", limit, what)
		case <-time.After(20 * time.Millisecond): // what is looked at announces nothing
		}
	}
	return nil
}

// awaitWhole waits until every client is connected and subscribed.
func (w *world) awaitWhole(ctx context.Context, limit time.Duration) error {
	return w.await(ctx, limit, "all clients connected", func() bool {
		return !slices.ContainsFunc(w.clients, func(c *client) bool { return !c.whole() })
	})
}

// rest lets d pass, unless ctx ends before.
func (w *world) rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// startLoad starts the steady load.
func (w *world) startLoad(ctx context.Context) {
	ctx, w.stopLoad = context.WithCancel(ctx)
	trying, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	w.giveUp = giveUp
	w.loading.Go(func() { w.load(ctx, trying) })
}

// endLoad ends the load; what was not accepted within the limit is given up.
func (w *world) endLoad(limit time.Duration) {
	w.stopLoad()
	timer := time.AfterFunc(limit, w.giveUp)
	w.loading.Wait()
	timer.Stop()
	w.giveUp()
}

// settle waits until nothing is missing, for at most limit.
func (w *world) settle(ctx context.Context, limit time.Duration) {
	for end := time.Now().Add(limit); w.ledger.missing() > 0 && time.Now().Before(end); {
		if w.rest(ctx, 250*time.Millisecond) != nil {
			return
		}
	}
	// What comes twice comes soon after what was owed.
	_ = w.rest(ctx, time.Second)
}

// close ends everything.
func (w *world) close() {
	w.endLoad(0)
	var wg sync.WaitGroup
	for _, c := range w.clients {
		wg.Go(c.leave)
	}
	wg.Wait()
	w.cluster.close()
	w.http.CloseIdleConnections()
}

// remove removes what the world left on disk.
func (w *world) remove() error { return os.RemoveAll(w.cluster.dir) }
