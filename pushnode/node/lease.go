package node

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
)

// How much is asked of Redis and the store at once when all channels are gone
// through.
const (
	routeBatch  = 500
	readsAtOnce = 32
)

// grant takes the lease and notes the term.
func (n *Node) grant(ctx context.Context) error {
	if _, err := n.reg.Grant(ctx, n.lease()); err != nil {
		return err
	}
	n.renewed.Store(time.Now())
	n.metrics.leases.WithLabelValues("granted").Inc()
	return nil
}

func (n *Node) lease() registry.Lease {
	return registry.Lease{Node: n.cfg.ID, Draining: n.state.Load() == stateDraining}
}

// keepLease renews the lease until ctx ends. Where the lease was lost or the
// term changed, Redis may have forgotten our routes, and messages may have
// passed us by: everything is registered and read again, beside the renewals.
func (n *Node) keepLease(ctx context.Context) error {
	t := time.NewTicker(n.cfg.RenewEvery)
	defer t.Stop()
	r := &restorer{node: n, done: make(chan restored, 1)}
	if term, err := n.reg.Term(ctx); err == nil {
		r.term = term.Number
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case result := <-r.done:
			if r.ended(result) {
				r.start(ctx)
			} // else the next renewal starts another
			continue
		case <-n.renewSoon:
		case <-t.C:
		}
		term, lost, err := n.renew(ctx)
		if err != nil {
			n.metrics.leases.WithLabelValues("failed").Inc()
			n.log.Warn("lease not renewed", "node", n.cfg.ID, "err", err)
			continue
		}
		if lost || term.Number != r.term {
			r.wanted++
			r.term = term.Number
		}
		r.start(ctx)
	}
}

// renew renews the lease, or takes it again if it was lost.
func (n *Node) renew(ctx context.Context) (term push.Term, lost bool, err error) {
	held, term, err := n.reg.Renew(ctx, n.lease())
	if err == nil && !held {
		n.metrics.leases.WithLabelValues("lost").Inc()
		n.log.Warn("lease lost, registering again", "node", n.cfg.ID)
		term, err = n.reg.Grant(ctx, n.lease())
	}
	if err != nil {
		return push.Term{}, false, err
	}
	n.renewed.Store(time.Now())
	n.metrics.leases.WithLabelValues("renewed").Inc()
	return term, !held, nil
}

// A restorer registers and reads every channel again, as often as something
// happened that makes it necessary, one time after another.
type restorer struct {
	node    *Node
	term    int64 // that the newest renewal found
	wanted  int   // how often it was necessary
	have    int   // up to which time that is done
	running bool
	done    chan restored
}

// restored is how a run ended that began when that many were wanted.
type restored struct {
	wanted int
	err    error
}

// start starts a run if one is due and none is under way.
func (r *restorer) start(ctx context.Context) {
	if r.running || r.have == r.wanted {
		return
	}
	r.running = true
	wanted, n := r.wanted, r.node
	n.metrics.leases.WithLabelValues("restore").Inc()
	n.log.Info("registering every channel again", "node", n.cfg.ID, "term", r.term, "channels", n.hub.Len())
	n.spawn(func() { r.done <- restored{wanted, n.restore(ctx, readAll)} })
}

// ended takes the result of a run and reports whether it did what it should.
func (r *restorer) ended(result restored) bool {
	r.running = false
	if result.err != nil {
		r.node.log.Warn("channels not all registered, will try again", "err", result.err)
		return false
	}
	r.have = result.wanted
	return true
}

// beat compares, at a slow pace, what each channel was given with what is
// stored, and writes all routes again: it heals what no error ever reported.
// Dispatch asks for one out of turn when it could not reach the node. Without
// Redis the inbox alone is compared; a node that has had neither for two beats
// in a row sends its clients to where the data is.
func (n *Node) beat(ctx context.Context) error {
	t := time.NewTicker(n.cfg.BeatEvery)
	defer t.Stop()
	blind := 0            // beats in a row that saw nothing
	var evicted evictions // what Redis had evicted at the last beat
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-n.beaten:
		case <-t.C:
		}
		depth, err := evicted.depth(ctx, n.history.evictions)
		if err == nil {
			err = n.restore(ctx, depth)
		}
		if err != nil && ctx.Err() == nil {
			n.log.Warn("beat without Redis", "err", err)
			err = n.restoreFromInbox(ctx)
		}
		if err == nil {
			blind = 0
			continue
		}
		evicted = evictions{} // that beat compared nothing with Redis
		n.metrics.leases.WithLabelValues("blind").Inc()
		n.log.Warn("beat saw neither Redis nor the store", "err", err)
		if blind++; blind == 2 {
			blind = 0
			n.closeInWaves(ctx, n.allClients())
		}
	}
}

// beatNow asks for a beat and a renewal out of turn. What Dispatch could not
// bring may have failed for want of a lease: then the renewal finds it lost.
func (n *Node) beatNow() {
	for _, ask := range []chan struct{}{n.renewSoon, n.beaten} {
		select {
		case ask <- struct{}{}:
		default: // one is asked for
		}
	}
}

// restoreFromInbox gives every channel what the inbox alone has for it.
func (n *Node) restoreFromInbox(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readsAtOnce)
	for _, ch := range n.hub.Channels() {
		g.Go(func() error { return n.applyInbox(ctx, ch) })
	}
	return g.Wait()
}

// applyInbox gives ch's connections what the inbox alone has beyond its last
// offset.
func (n *Node) applyInbox(ctx context.Context, ch *hub.Channel) error {
	for {
		after, ok := ch.Last()
		if !ok {
			return nil
		}
		p, err := n.history.readInbox(ctx, ch.Name(), after)
		if err != nil {
			return err
		}
		ch.Apply(after, p.Page)
		if !p.More {
			return nil
		}
	}
}

// A depth says how closely channels are compared with what is stored.
type depth int

// The depths.
const (
	compareLogs  depth = iota // read those whose log has gone on
	compareInbox              // and, where the log's end is not known, whose inbox has
	readAll                   // read all of them
)

// evictions notes how many keys Redis had evicted at the last beat.
type evictions struct {
	known bool
	keys  int64
}

// depth returns how closely a beat must compare. What Redis evicted since the
// last one may have been a route together with the log and its end: then only
// the inbox tells that something is missing.
func (e *evictions) depth(ctx context.Context, watch *evictionWatch) (depth, error) {
	keys, _, err := watch.look(ctx)
	if err != nil {
		return 0, err
	}
	same := e.known && keys == e.keys || !e.known && keys == 0
	e.known, e.keys = true, keys
	if same {
		return compareLogs, nil
	}
	return compareInbox, nil
}

// restore registers every channel again, and then catches up those that lack
// something.
func (n *Node) restore(ctx context.Context, d depth) error {
	channels := n.hub.Channels()
	for batch := range slices.Chunk(channels, routeBatch) {
		routes := make([]registry.ChannelRoute, len(batch))
		for i, ch := range batch {
			routes[i] = registry.ChannelRoute{Channel: ch.Name(), Registration: ch.Registration()}
		}
		if err := n.reg.AddRoutes(ctx, n.cfg.ID, routes); err != nil {
			return err
		}
		n.withdrawGone(batch)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readsAtOnce)
	for _, ch := range channels {
		g.Go(func() error { return n.compare(ctx, ch, d) })
	}
	return g.Wait()
}

// withdrawGone removes the routes of channels that went while their routes were
// written again.
func (n *Node) withdrawGone(batch []*hub.Channel) {
	for _, ch := range batch {
		if n.hub.Channel(ch.Name()) != ch {
			n.routes.remove(registry.ChannelRoute{Channel: ch.Name(), Registration: ch.Registration()})
		}
	}
}

// compare catches ch up if it lacks something.
func (n *Node) compare(ctx context.Context, ch *hub.Channel, d depth) error {
	reason := "term"
	if d != readAll {
		reason = "beat"
		last, err := n.reg.LastInLog(ctx, ch.Name())
		if err == nil && last == 0 && d == compareInbox {
			last, err = n.history.lastOffsets.of(ctx, ch.Name())
		}
		if err != nil {
			return err
		}
		if have, ok := ch.Last(); !ok || last <= have {
			return nil
		}
	}
	if _, ok := ch.Catch(); !ok {
		return nil
	}
	// It goes on by itself, however long that takes; what is waited for is its
	// end, or that something it needs is away.
	select {
	case err := <-n.catchUp(ch, reason):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// catchUp runs a catch-up that the caller owns, in the background. The channel
// it returns gets one value: the first error it meets, or nil at its end.
func (n *Node) catchUp(ch *hub.Channel, reason string) <-chan error {
	n.metrics.catchUps.WithLabelValues(reason).Inc()
	first := make(chan error, 1)
	n.work(func() { n.runCatchUp(ch, first) })
	return first
}

// pagePause lies between two pages of a catch-up, which go to all connections of
// a channel whatever they have waiting: 256 KiB of it are 5 MiB/s.
const pagePause = 50 * time.Millisecond

// runCatchUp reads what ch lacks until it lacks nothing, however long Redis or
// the store are away; it gives up only with the node. (While Redis alone is
// away, the beat gives the connections what the inbox has.)
func (n *Node) runCatchUp(ch *hub.Channel, first chan<- error) {
	tell := func(err error) {
		select {
		case first <- err:
		default: // it was told
		}
	}
	pause := pagePause
	after, _ := ch.Last()
	for {
		p, err := n.readForCatchUp(ch, after)
		wait := pagePause
		if err == nil {
			var done bool
			if after, done = ch.CaughtUp(after, p.Page); done {
				tell(nil)
				return
			}
		} else {
			tell(err)
			n.log.Warn("catch-up waits", "err", err, "pause", pause)
		}
		if err != nil || p.Unsettled {
			wait = pause
			pause = min(2*pause, 2*time.Second)
		}
		select {
		case <-n.bg.Done():
			tell(n.bg.Err())
			return
		case <-time.After(wait):
		}
	}
}

// readForCatchUp reads a page, a bounded number of catch-ups at a time.
func (n *Node) readForCatchUp(ch *hub.Channel, after push.Offset) (page, error) {
	select {
	case n.catchReads <- struct{}{}:
		defer func() { <-n.catchReads }()
	case <-n.bg.Done():
		return page{}, n.bg.Err()
	}
	ctx, cancel := context.WithTimeout(n.bg, catchReadTime)
	defer cancel()
	return n.history.read(ctx, ch.Name(), after)
}

// catchReadTime bounds one read of a catch-up.
const catchReadTime = 10 * time.Second

// A routeRemover removes routes of channels that have no connection any more,
// in batches. Removing may fail: Dispatch removes what it finds stale.
type routeRemover struct {
	node    push.NodeID
	reg     *registry.Registry
	log     *slog.Logger
	metrics *metrics
	wake    chan struct{}

	mu      sync.Mutex // guards what follows
	pending []registry.ChannelRoute
}

func (r *routeRemover) remove(route registry.ChannelRoute) {
	r.mu.Lock()
	r.pending = append(r.pending, route)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *routeRemover) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.wake:
			r.flush(ctx)
		}
	}
}

// flush removes what is pending.
func (r *routeRemover) flush(ctx context.Context) {
	r.mu.Lock()
	pending := r.pending
	r.pending = nil
	r.mu.Unlock()
	for batch := range slices.Chunk(pending, routeBatch) {
		if err := r.reg.RemoveRoutes(ctx, r.node, batch); err != nil {
			r.metrics.dropped.WithLabelValues("route_removal").Add(float64(len(batch)))
			r.log.Warn("routes not removed, Dispatch will find them stale", "count", len(batch), "err", err)
		}
	}
}
