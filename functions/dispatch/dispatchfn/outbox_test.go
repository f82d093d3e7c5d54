package dispatchfn_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

func (c *cluster) put(due time.Duration, messages ...*push.Message) {
	c.t.Helper()
	var entries []store.OutboxEntry
	for _, m := range messages {
		entries = append(entries, store.OutboxEntry{Message: m.ID, DueAt: time.Now().Add(due), Reason: "test"})
	}
	if err := c.store.PutOutbox(c.t.Context(), entries); err != nil {
		c.t.Fatal(err)
	}
}

// waiting returns what is in the outbox, claimed or not.
func (c *cluster) waiting() []store.OutboxEntry {
	c.t.Helper()
	far := time.Now().Add(24 * time.Hour)
	entries, err := c.store.ClaimOutbox(c.t.Context(), far, far.Add(time.Millisecond), 1000)
	if err != nil {
		c.t.Fatal(err)
	}
	return entries
}

func TestSweepOutbox(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	n := c.node(route("#42", 1))
	due, later := message("due", toUsers("42")), message("later", toUsers("42"))
	expired, gone := message("expired", toUsers("42")), message("gone", toUsers("42"))
	expired.ExpiresAt = time.Now().Add(-time.Second)
	c.insert(due, later, expired)
	c.put(-time.Second, due, expired, gone)
	c.put(time.Hour, later)
	claimed, err := c.SweepOutbox(t.Context())
	if err != nil || claimed != 3 {
		t.Fatalf("SweepOutbox = %d, %v, want 3", claimed, err)
	}
	if got := names(n.got()); got != "#42:due" {
		t.Errorf("the node got %q, want due alone", got)
	}
	left := c.waiting()
	if len(left) != 1 || left[0].Message != "later" {
		t.Errorf("left in the outbox: %+v, want later alone", left)
	}
	for outcome, want := range map[string]float64{"confirmed": 1, "expired": 1, "missing": 1, "retry": 0} {
		if got := c.metric("dispatch_outbox_total", outcome); got != want {
			t.Errorf("%s is counted %v, want %v", outcome, got, want)
		}
	}
}

func TestOutboxIsTriedLaterAndLater(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, func(_ *cluster, st store.Store) dispatchfn.Store {
		return faultyStore{st, func() error { return errors.New("away") }}
	})
	tests := map[string]struct {
		attempts   int
		from, till time.Duration
	}{
		"first":  {0, 500 * time.Millisecond, time.Second},
		"third":  {2, 2 * time.Second, 4 * time.Second},
		"ninth":  {8, 30 * time.Second, time.Minute},
		"many":   {98, 30 * time.Second, time.Minute},
		"absurd": {-5, 500 * time.Millisecond, time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := message(name, toUsers("42"))
			c.insert(m)
			if err := c.store.PutOutbox(t.Context(), []store.OutboxEntry{
				{Message: m.ID, DueAt: time.Now().Add(-time.Minute), Attempts: tt.attempts}}); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if n, err := c.SweepOutbox(t.Context()); n != 1 || err != nil {
				t.Fatalf("SweepOutbox = %d, %v, want 1", n, err)
			}
			took := time.Since(start) + 100*time.Millisecond
			left := c.waiting()
			if len(left) != 1 || left[0].Attempts != tt.attempts+1 || left[0].Reason == "" {
				t.Fatalf("left in the outbox: %+v", left)
			}
			wait := left[0].DueAt.Sub(start)
			if wait < tt.from-100*time.Millisecond || wait > tt.till+took {
				t.Errorf("after %d attempts the next is in %v, want %v to %v", tt.attempts, wait, tt.from, tt.till)
			}
			if err := c.store.ConfirmOutbox(t.Context(), []push.MessageID{m.ID}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestSmallBesideAWideOneThatFails: what goes with a message to very many users
// has nothing to do with what becomes of that.
func TestSmallBesideAWideOneThatFails(t *testing.T) {
	many := make([]push.UserID, 10_000)
	for i := range many {
		many[i] = push.UserID(fmt.Sprint("many", i))
	}
	c := newCluster(t, dispatchfn.Config{}, func(_ *cluster, st store.Store) dispatchfn.Store {
		return pickyStore{Store: st, unwritable: "wide"}
	})
	c.line(nil, message("wide", toUsers(many...)), message("small", toUsers("42")), message("behind", toUsers("many7", "43")), message("next", toUsers("42")))
	c.sweep()
	if first, next := c.inbox("#42", "small"), c.inbox("#42", "next"); first == 0 || next <= first {
		t.Errorf("small stands at %d and next at %d, want them to have gone out in their order", first, next)
	}
	if e := c.entry("wide"); e.Attempts != 1 {
		t.Errorf("wide waits as %+v, want it tried once", e)
	}
	if e := c.entry("behind"); e.Attempts != 0 || c.inbox("#43", "behind") != 0 {
		t.Errorf("behind waits as %+v, want it untried: one of its channels waits for wide", e)
	}
	for outcome, want := range map[string]float64{"confirmed": 2, "retry": 1, "held": 1} {
		if got := c.metric("dispatch_outbox_total", outcome); got != want {
			t.Errorf("%s is counted %v, want %v", outcome, got, want)
		}
	}
}

// Two processes sweep at once: each message goes out once.
func TestTwoSweeps(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{OutboxLimit: 10}, nil)
	n := c.node(route("#42", 1))
	var messages []*push.Message
	for i := range 60 {
		messages = append(messages, message(fmt.Sprint("m", i), toUsers("42")))
	}
	c.insert(messages...)
	c.put(-time.Second, messages...)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				claimed, err := c.SweepOutbox(t.Context())
				if err != nil || claimed == 0 {
					if err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	wg.Wait()
	if len(c.log("#42")) != 60 || len(n.got()) != 60 || len(c.waiting()) != 0 {
		t.Errorf("log %d, node %d, left %d; want 60, 60, 0", len(c.log("#42")), len(n.got()), len(c.waiting()))
	}
}

func TestRunEmptiesTheOutbox(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{OutboxEvery: 10 * time.Millisecond, SweepEvery: 10 * time.Millisecond}, nil)
	n := c.node(route("#42", 1))
	m := message("m1", toUsers("42"))
	c.insert(m)
	old := message("old", toUsers("42"))
	old.CreatedAt, old.ExpiresAt = time.Now().Add(-9*24*time.Hour), time.Now().Add(-8*24*time.Hour)
	c.insert(old)
	c.put(-time.Second, m)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for c.metric("dispatch_outbox_total", "confirmed") < 1 || c.metric("dispatch_swept_total", "") < 1 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the outbox was not emptied, or the store not swept, within a minute")
		}
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
	if got := names(n.got()); got != "#42:m1" {
		t.Errorf("the node got %q", got)
	}
}
