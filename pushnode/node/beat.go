package node

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/registry"
	"pushcluster/shared/telemetry"
)

// How much is asked of Redis and the store at once when all channels are gone
// through.
const (
	routeBatch  = 500
	readsAtOnce = 32
)

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
	redis, sight := telemetry.Lapse{What: "beat with Redis"}, telemetry.Lapse{What: "beat with Redis or the store"}
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
		if ctx.Err() == nil {
			redis.Note(n.log, err)
			if err != nil {
				err = n.restoreFromInbox(ctx)
			}
			sight.Note(n.log, err)
		}
		if err == nil {
			blind = 0
			continue
		}
		evicted = evictions{} // that beat compared nothing with Redis
		n.metrics.leases.WithLabelValues("blind").Inc()
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
// offset, at the pace of a catch-up: whom it closed for being slow could not come
// back while Redis is away.
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
		select {
		case <-time.After(pagePause):
		case <-ctx.Done():
			return ctx.Err()
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
		if have, ok := ch.Last(); ok && last <= have {
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
