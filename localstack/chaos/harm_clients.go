package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
	"pushcluster/shared/store/storeurl"
)

const (
	slowRoom  = push.Channel("room:slow")
	slowEvery = 20       // one client of so many is slow
	slowData  = 48 << 10 // bytes of each message to them
	// shortTTL is of messages that expire while their devices are away. Others
	// that are there get them, although Redis is flushed meanwhile: nodes notice
	// that at the latest when they renew their leases, every 5 s.
	shortTTL = 8 * time.Second
	// mostMemory is what a node may hold with all its slow clients waiting: what
	// it needs anyway, and for each of them the queue of 1 MiB and what the
	// kernel's buffers and the encoder add.
	mostMemory = 400 << 20
)

// slowDown has one client of twenty read nothing for 30 s, while much is sent
// to it. It is closed as slow, comes back and gets everything.
func slowDown(ctx context.Context, w *world) error {
	var resume []func()
	var slow []*client
	for _, c := range w.clients {
		if c.slow {
			slow = append(slow, c)
			resume = append(resume, c.stall())
		}
	}
	w.say("%d clients read nothing", len(slow))
	end := w.ledger.fault("slow clients")
	sending, stop := context.WithCancel(ctx)
	defer stop()
	w.loading.Go(func() {
		w.pace(sending, w.random(11), 60*time.Millisecond, func() {
			w.post(ctx, w.write(push.Recipients{Channels: []push.Channel{slowRoom}}, slowData, 0, ""))
		})
	})
	if err := w.rest(ctx, 12*time.Second); err != nil {
		return err
	}
	stop()
	if err := w.rest(ctx, 18*time.Second); err != nil {
		return err
	}
	var closed, memory float64
	for _, n := range w.cluster.nodes {
		series, err := scrape(ctx, n.metrics)
		if err != nil {
			return err
		}
		closed += series[`pushnode_connections_closed_total{reason="slow"}`]
		memory = max(memory, series["process_resident_memory_bytes"])
	}
	for _, f := range resume {
		f()
	}
	end()
	w.say("they read again; %v were closed as slow, a node holds at most %.0f MiB", closed, memory/(1<<20))
	if int(closed) < len(slow) {
		return fmt.Errorf("of %d slow clients only %v were closed with 3008", len(slow), closed)
	}
	if memory > mostMemory {
		return fmt.Errorf("a node held %.0f MiB", memory/(1<<20))
	}
	return w.awaitWhole(ctx, 20*time.Second)
}

// goOffline closes the pages of some devices, of which every other one was deaf
// for a while before, sends them messages that collapse and messages that expire,
// kills a node and flushes Redis meanwhile, and opens the pages again, which know
// no position.
func goOffline(ctx context.Context, w *world) error {
	var away []*client
	for i, c := range w.clients {
		if c.device != "" && i%4 == 0 {
			away = append(away, c)
		}
	}
	w.say("%d devices leave; every other one hears nothing first", len(away))
	for i, c := range away {
		if i%2 == 0 {
			c.stall()
		}
	}
	if err := w.rest(ctx, 3*time.Second); err != nil {
		return err
	}
	for _, c := range away {
		c.leave()
		for _, f := range c.followers {
			f.left()
		}
	}
	if err := w.rest(ctx, 2*time.Second); err != nil {
		return err
	}
	rng := w.random(15)
	w.writeToAway(ctx, rng, away)
	w.say("%s is restarted, Redis is flushed", w.cluster.nodes[0].name)
	end := w.ledger.fault("kill of node1, FLUSHALL")
	w.cluster.nodes[0].up.Store(false)
	w.cluster.nodes[0].kill()
	if err := w.cluster.redis.do("FLUSHALL"); err != nil {
		return err
	}
	if err := w.cluster.nodes[0].start(ctx); err != nil {
		return err
	}
	end()
	w.writeToAway(ctx, rng, away)
	if err := w.rest(ctx, shortTTL+2*time.Second); err != nil {
		return err
	}
	w.say("the devices come back")
	back := time.Now()
	if err := w.comeBack(ctx, away); err != nil {
		return err
	}
	if err := w.rest(ctx, 6*time.Second); err != nil {
		return err
	}
	return w.onlyNewest(away, back)
}

// writeToAway sends each client one message that lasts, one that expires before
// it comes back, and three of which the last counts.
func (w *world) writeToAway(ctx context.Context, rng *rand.Rand, away []*client) {
	for part := range slices.Chunk(away, 20) {
		var drafts []draft
		for _, c := range part {
			to := push.Recipients{Users: []push.UserID{c.user}}
			drafts = append(drafts, w.write(to, padding, 0, ""), w.write(to, padding, shortTTL, ""))
			key := fmt.Sprintf("key%d", rng.IntN(3))
			for range 3 {
				drafts = append(drafts, w.write(to, padding, 0, key))
			}
		}
		w.post(ctx, drafts...)
	}
}

// comeBack opens the pages of clients again. What was recorded for their devices
// is read from the store first.
func (w *world) comeBack(ctx context.Context, clients []*client) error {
	st, err := storeurl.Open(ctx, w.cluster.storeURL, storeurl.Config{})
	if err != nil {
		return err
	}
	defer st.Close()
	for _, c := range clients {
		cursors, err := st.LoadCursors(ctx, []store.UserDevice{{User: c.user, Device: c.device}})
		if err != nil {
			return err
		}
		c.reload(cursors)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for _, c := range clients {
		g.Go(func() error {
			for _, f := range c.followers {
				f.came()
			}
			if err := c.connect(); err != nil {
				return err
			}
			return w.await(gctx, 30*time.Second, c.name+" connected", c.whole)
		})
	}
	return g.Wait()
}

func (c *client) reload(cursors []store.Cursor) {
	recorded := make(map[string]uint64)
	for _, cur := range cursors {
		recorded[string(cur.Channel)] = uint64(cur.Received)
	}
	for name, f := range c.followers {
		f.reload(recorded[name])
	}
}

// onlyNewest returns an error if one of the clients, when it was back, was given
// something that had been superseded, or had expired, before.
func (w *world) onlyNewest(clients []*client, back time.Time) error {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	var errs []error
	for _, c := range clients {
		f := c.followers[string(push.Personal(c.user))]
		f.mu.Lock()
		newest := make(map[string]uint64) // offset, by collapse key
		for n, r := range f.got {
			m := w.ledger.messages[n]
			if m.collapse != "" && m.accepted.Before(back) {
				newest[m.collapse] = max(newest[m.collapse], r.offset)
			}
		}
		for n, r := range f.got {
			m := w.ledger.messages[n]
			switch {
			case r.at.Before(back) || !m.accepted.Before(back):
			case m.collapse != "" && r.offset < newest[m.collapse]:
				errs = append(errs, fmt.Errorf("%s was given message %d, which a newer one of its key had superseded", c.name, n))
			case !m.expires.IsZero() && m.expires.Before(back.Add(-time.Second)):
				errs = append(errs, fmt.Errorf("%s was given message %d, which had expired", c.name, n))
			}
		}
		f.mu.Unlock()
	}
	if len(errs) > 5 {
		errs = append(errs[:5], fmt.Errorf("and %d more", len(errs)-5))
	}
	return errors.Join(errs...)
}
