package dispatchfn_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/store"
)

// line stores messages and puts them into the outbox in their order, due, as
// Collect does. Those in tried were tried so often.
func (c *cluster) line(tried map[push.MessageID]int, messages ...*push.Message) {
	c.t.Helper()
	c.insert(messages...)
	var entries []store.OutboxEntry
	for _, m := range messages {
		entries = append(entries, store.OutboxEntry{
			Message: m.ID, DueAt: time.Now().Add(-time.Minute), Attempts: tried[m.ID], Reason: "test", Channels: m.To.List(),
		})
	}
	if err := c.store.PutOutbox(c.t.Context(), entries); err != nil {
		c.t.Fatal(err)
	}
}

// entry returns the outbox entry of a message that waits.
func (c *cluster) entry(id push.MessageID) store.OutboxEntry {
	c.t.Helper()
	found, err := c.store.LoadOutbox(c.t.Context(), []push.MessageID{id})
	if err != nil || found[id].State != store.Waiting || found[id].Message != id {
		c.t.Fatalf("%s does not wait: %+v, %v", id, found, err)
	}
	return found[id].OutboxEntry
}

func (c *cluster) sweep() {
	c.t.Helper()
	if _, err := c.SweepOutbox(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
}

func TestSweepGoesByTheOrder(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	n := c.node(route("#42", 1))
	var messages []*push.Message
	want := ""
	for i := range 20 {
		m := message(fmt.Sprint("m", 20-i), toUsers("42"))
		m.CreatedAt = m.CreatedAt.Add(-time.Duration(i) * time.Second) // no clock tells the order
		messages = append(messages, m)
		want += fmt.Sprintf(" #42:%s", m.ID)
	}
	c.line(nil, messages...)
	c.sweep()
	if got := " " + names(n.got()); got != want {
		t.Errorf("the node got%s, want%s", got, want)
	}
}

// TestBehindOneThatWaits has an older message that this sweep cannot dispatch.
func TestBehindOneThatWaits(t *testing.T) {
	later := time.Now().Add(patience).Truncate(time.Millisecond).UTC()
	tests := map[string]struct {
		older func(c *cluster) error
		due   time.Time // of what is held; zero: as it was
	}{
		"to be tried again later": {func(c *cluster) error {
			return c.store.RetryOutbox(c.t.Context(), []store.OutboxEntry{{Message: "older", DueAt: later, Attempts: 2}})
		}, later},
		"claimed by another sweep": {func(c *cluster) error {
			now := time.Now()
			claimed, err := c.store.ClaimOutbox(c.t.Context(), now, now.Add(time.Minute), 1)
			if len(claimed) != 1 || claimed[0].Message != "older" {
				return fmt.Errorf("claimed %+v: %w", claimed, err)
			}
			return err
		}, time.Time{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, dispatchfn.Config{}, nil)
			n := c.node(route("#42", 1), route("#43", 1), route("#44", 1))
			c.line(map[push.MessageID]int{"older": 1}, message("older", toUsers("42")), message("behind", toUsers("42", "43")),
				message("further", toUsers("43")), message("other", toUsers("44")))
			before := c.entry("behind")
			if err := tt.older(c); err != nil {
				t.Fatal(err)
			}
			c.sweep()
			if got := names(n.got()); got != "#44:other" {
				t.Errorf("the node got %q, want the message of another channel alone", got)
			}
			for _, id := range []push.MessageID{"behind", "further"} {
				want := tt.due
				if want.IsZero() {
					want = before.DueAt
				}
				if e := c.entry(id); e.Attempts != 0 || !e.DueAt.Equal(want) || e.Reason != "test" {
					t.Errorf("%s is held as %+v, want it untried and due at %v", id, e, want)
				}
			}
			if got := c.metric("dispatch_outbox_total", "held"); got != 2 {
				t.Errorf("%v are counted as held, want 2", got)
			}
			if err := c.store.ConfirmOutbox(t.Context(), []push.MessageID{"older"}); err != nil {
				t.Fatal(err)
			}
			if tt.due.IsZero() {
				c.sweep()
				if got := names(n.got()); got != "#44:other #42:behind #43:behind #43:further" {
					t.Errorf("when nothing is ahead the node got %q", got)
				}
			}
		})
	}
}

// TestBehindOneThatFails goes through what becomes of a channel whose first
// message cannot be dispatched. "bad" is dispatched alone, and so are those that
// were tried as often.
func TestBehindOneThatFails(t *testing.T) {
	tests := map[string]struct {
		tried map[push.MessageID]int
		out   string // of the channels #42 and #43, by channel
		state store.OutboxState
		held  int
	}{
		"it fails again":                   {map[push.MessageID]int{"bad": 3}, "#43:other", store.Waiting, 2},
		"it is given up":                   {map[push.MessageID]int{"bad": 11}, "#42:second #42:third #43:other", store.Parked, 0},
		"those behind it have failed, too": {map[push.MessageID]int{"bad": 11, "second": 4, "third": 5}, "#42:second #42:third #43:other", store.Parked, 0},
		"all are alone, and it fails":      {map[push.MessageID]int{"bad": 3, "second": 4, "third": 5, "other": 3}, "#43:other", store.Waiting, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, dispatchfn.Config{}, func(_ *cluster, st store.Store) dispatchfn.Store {
				return pickyStore{Store: st, unwritable: "bad"}
			})
			c.line(tt.tried, message("bad", toUsers("42")), message("second", toUsers("42")),
				message("third", toUsers("42")), message("other", toUsers("43")))
			c.sweep()
			got := ""
			for _, at := range []struct {
				ch push.Channel
				id push.MessageID
			}{{"#42", "second"}, {"#42", "third"}, {"#43", "other"}} {
				if c.inbox(at.ch, at.id) != 0 {
					got += fmt.Sprintf(" %s:%s", at.ch, at.id)
				}
			}
			if got != " "+tt.out {
				t.Errorf("there went out%s, want %s", got, tt.out)
			}
			if c.inbox("#42", "third") < c.inbox("#42", "second") {
				t.Error("third stands before second")
			}
			found, err := c.store.LoadOutbox(t.Context(), []push.MessageID{"bad"})
			if err != nil || found["bad"].State != tt.state {
				t.Errorf("bad is in state %v, want %v, %v", found["bad"].State, tt.state, err)
			}
			if tt.held == 0 {
				return
			}
			for _, id := range []push.MessageID{"second", "third"} {
				if e := c.entry(id); e.Attempts != tt.tried[id] || e.DueAt.Before(found["bad"].DueAt) {
					t.Errorf("%s waits as %+v, want it untried and not due before bad at %v", id, e, found["bad"].DueAt)
				}
			}
		})
	}
}

func TestWhatIsOverHoldsNobody(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	n := c.node(route("#42", 1))
	expired := message("expired", toUsers("42"))
	expired.ExpiresAt = time.Now().Add(-time.Second)
	invalid := message("invalid", toUsers("42"))
	invalid.Data = nil
	c.line(nil, expired, invalid, message("good", toUsers("42")))
	c.sweep()
	if got := names(n.got()); got != "#42:good" {
		t.Errorf("the node got %q, want good", got)
	}
}

// What a look does not come to while its claim lasts stays as it was.
func TestLeavesWhatItDoesNotComeTo(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{OutboxClaim: time.Nanosecond}, nil)
	n := c.node(route("#42", 1))
	c.line(nil, message("first", toUsers("42")), message("second", toUsers("42")))
	before := c.entry("second")
	c.sweep()
	if got := names(n.got()); got != "" {
		t.Errorf("the node got %q after the claim had run out", got)
	}
	if e := c.entry("second"); e.Attempts != 0 || !e.DueAt.Equal(before.DueAt) {
		t.Errorf("second waits as %+v, want it as it was", e)
	}
}

// A sweep that dispatched something looks again at once: what came meanwhile, and
// could go nowhere else, does not wait for the next beat.
func TestLooksAgainAtOnce(t *testing.T) {
	var once sync.Once
	var c *cluster
	c = newCluster(t, dispatchfn.Config{OutboxLimit: 2}, func(_ *cluster, st store.Store) dispatchfn.Store {
		return faultyStore{st, func() error {
			once.Do(func() { c.line(nil, message("late", toUsers("42"))) })
			return nil
		}}
	})
	n := c.node(route("#42", 1))
	c.line(nil, message("first", toUsers("42")))
	if err := c.RunSchedule(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := names(n.got()); got != "#42:first #42:late" {
		t.Errorf("the node got %q, want first and late", got)
	}
}

// A quickRegistry is a registry whose clock a test moves on.
type quickRegistry struct {
	*registry.Registry
	ahead *atomic.Int64 // nanoseconds
}

func (r quickRegistry) Now() time.Time {
	return r.Registry.Now().Add(time.Duration(r.ahead.Load()))
}

// A flakyStore is a real store where, one time in odds, a write of the inbox is
// not made, or made and not answered, and a confirmation is lost.
type flakyStore struct {
	dispatchfn.Store
	odds *atomic.Int64 // 0: never
}

func (s flakyStore) fails() bool {
	odds := s.odds.Load()
	return odds > 0 && rand.Int64N(odds) == 0
}

var errFlaky = errors.New("no answer")

func (s flakyStore) WriteInbox(ctx context.Context, entries []store.InboxEntry) ([]store.Placement, error) {
	if s.fails() {
		return nil, errFlaky
	}
	placements, err := s.Store.WriteInbox(ctx, entries)
	if s.fails() {
		return nil, errFlaky
	}
	return placements, err
}

func (s flakyStore) ConfirmOutbox(ctx context.Context, ids []push.MessageID) error {
	if s.fails() {
		return errFlaky
	}
	return s.Store.ConfirmOutbox(ctx, ids)
}

// A plannedPost is one post of the model's senders.
type plannedPost struct {
	channels []push.Channel
	fails    bool // its hand-off does not reach Dispatch
	lost     bool // Dispatch's answer does not reach Collect
}

// TestOrderModel has senders post one message after another, each after the
// answer to the last, over hand-offs that fail, while two sweeps work and fail
// too, and claims run out. In each channel, each sender's messages must stand in
// the order in which they were posted. What Collect does is told here as it is:
// behind what waits, else to Dispatch, else into the outbox.
func TestOrderModel(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	ahead, odds := &atomic.Int64{}, &atomic.Int64{}
	nodes := newNodes(t, c.reg, nil)
	var handlers []*dispatchfn.Handler
	for range 2 {
		h, err := dispatchfn.New(dispatchfn.Config{OutboxLimit: 3, OutboxClaim: 4 * time.Second, ParkAfter: 1 << 20, ParkAtLast: 1 << 20},
			quickRegistry{c.reg, ahead}, flakyStore{c.store, odds}, nodes, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		handlers = append(handlers, h)
	}
	run := 0
	check := func(rt *rapid.T) {
		run++
		all := []push.Channel{"#1", "#2", "room:7"}
		for i := range all {
			all[i] = push.Channel(fmt.Sprintf("%s of run %d", all[i], run))
		}
		plan := rapid.SliceOfN(rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) plannedPost {
			return plannedPost{
				channels: rapid.SliceOfNDistinct(rapid.SampledFrom(all), 1, 2, rapid.ID[push.Channel]).Draw(rt, "channels"),
				fails:    rapid.IntRange(0, 3).Draw(rt, "fails") == 0,
				lost:     rapid.IntRange(0, 5).Draw(rt, "lost") == 0,
			}
		}), 1, 6), 1, 3).Draw(rt, "senders")
		odds.Store(int64(rapid.SampledFrom([]int{0, 10, 4}).Draw(rt, "odds")))

		ctx, stop := context.WithCancel(t.Context())
		var sweeps, senders sync.WaitGroup
		for _, h := range handlers {
			sweeps.Go(func() {
				for ctx.Err() == nil {
					_, _ = h.SweepOutbox(ctx) // what fails is tried again
					ahead.Add(int64(time.Second))
				}
			})
		}
		for s, posts := range plan {
			senders.Go(func() {
				for i, p := range posts {
					c.collect(handlers[(s+i)%2], push.MessageID(fmt.Sprintf("%d/%d/%d", run, s, i)), p)
				}
			})
		}
		senders.Wait()
		odds.Store(0)
		for waits := true; waits; {
			var err error
			if waits, err = c.store.AnyBacklog(t.Context()); err != nil {
				rt.Fatal(err)
			}
		}
		stop()
		sweeps.Wait()
		for _, ch := range all {
			for s, posts := range plan {
				c.inOrder(rt, ch, run, s, posts)
			}
		}
	}
	began := time.Now()
	rapid.Check(t, func(rt *rapid.T) {
		if time.Since(began) > 4*time.Second {
			return // enough for one run of the tests
		}
		check(rt)
	})
}

// collect does with one message what Collect does.
func (c *cluster) collect(dispatch *dispatchfn.Handler, id push.MessageID, p plannedPost) {
	m := message(string(id), push.Recipients{Channels: p.channels})
	m.ExpiresAt = m.CreatedAt.Add(push.MaxTTL) // the sweeps' clocks may come far
	c.insert(m)
	backlog, err := c.store.Backlog(c.t.Context(), p.channels)
	if err != nil {
		c.t.Error(err)
	}
	waits := len(backlog) > 0 || p.fails
	if !waits && dispatch.Dispatch(c.t.Context(), []*push.Message{m}, false)[0] != nil {
		waits = true
	}
	if !waits && !p.lost {
		return
	}
	err = c.store.PutOutbox(c.t.Context(), []store.OutboxEntry{{Message: id, DueAt: time.Now().Add(-time.Minute), Channels: p.channels}})
	if err != nil {
		c.t.Error(err)
	}
}

// inOrder fails the test unless the posts of sender s stand in ch in their order.
func (c *cluster) inOrder(rt *rapid.T, ch push.Channel, run, s int, posts []plannedPost) {
	var last push.Offset
	for i, p := range posts {
		at := c.inbox(ch, push.MessageID(fmt.Sprintf("%d/%d/%d", run, s, i)))
		for _, to := range p.channels {
			if to == ch && at <= last {
				rt.Errorf("message %d of sender %d stands in %q at %d, not behind %d", i, s, ch, at, last)
			}
		}
		last = max(last, at)
	}
}
