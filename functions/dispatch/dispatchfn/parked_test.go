package dispatchfn_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A pickyStore is a real store that cannot write some messages into the inbox,
// and cannot read others.
type pickyStore struct {
	dispatchfn.Store
	unwritable, unreadable push.MessageID
}

func (s pickyStore) WriteInbox(ctx context.Context, entries []store.InboxEntry) ([]store.Placement, error) {
	if slices.ContainsFunc(entries, func(e store.InboxEntry) bool { return e.Message == s.unwritable }) {
		return nil, errors.New("no such entry can be written")
	}
	return s.Store.WriteInbox(ctx, entries)
}

func (s pickyStore) LoadMessages(ctx context.Context, ids []push.MessageID) (map[push.MessageID]store.Record, error) {
	if slices.Contains(ids, s.unreadable) {
		return nil, errors.New("decode recipients")
	}
	return s.Store.LoadMessages(ctx, ids)
}

// TestPark goes through what is parked at once, what later and what never. Each
// case sweeps once; "other" is a message that gets through in the same sweep.
func TestPark(t *testing.T) {
	noData := message("m", toUsers("42"))
	noData.Data = nil
	good := message("m", toUsers("42"))
	tests := map[string]struct {
		message  *push.Message
		attempts int
		other    bool
		store    pickyStore
		parked   bool
		reason   string
	}{
		"cannot be dispatched, ever":      {noData, 0, false, pickyStore{}, true, "no data"},
		"cannot be read":                  {good, 0, true, pickyStore{unreadable: "m"}, true, "decode recipients"},
		"fails for the first time":        {good, 0, false, pickyStore{unwritable: "m"}, false, ""},
		"fails for the eleventh time":     {good, 10, true, pickyStore{unwritable: "m"}, false, ""},
		"fails for the twelfth time":      {good, 11, true, pickyStore{unwritable: "m"}, true, "unavailable"},
		"so do all others":                {good, 11, false, pickyStore{unwritable: "m"}, false, ""},
		"fails for the hundredth time":    {good, 99, false, pickyStore{unwritable: "m"}, true, "unavailable"},
		"gets through at the last moment": {good, 98, true, pickyStore{}, false, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, dispatchfn.Config{}, func(_ *cluster, st store.Store) dispatchfn.Store {
				tt.store.Store = st
				return tt.store
			})
			c.insert(tt.message)
			c.putTried(tt.message.ID, tt.attempts)
			if tt.other {
				other := message("other", toUsers("43"))
				c.insert(other)
				c.put(-time.Second, other)
			}
			if _, err := c.SweepOutbox(t.Context()); err != nil {
				t.Fatal(err)
			}
			if tt.other && c.inbox("#43", "other") == 0 {
				t.Error("the other message did not get through")
			}
			parked, err := c.store.ListParked(t.Context(), store.ParkedQuery{})
			if err != nil {
				t.Fatal(err)
			}
			if got := len(parked) == 1; got != tt.parked || len(parked) > 1 {
				t.Fatalf("parked are %+v, want m: %v", parked, tt.parked)
			}
			if got := c.metric("dispatch_outbox_total", "parked"); got != float64(len(parked)) {
				t.Errorf("%v are counted as parked, want %d", got, len(parked))
			}
			if !tt.parked {
				return
			}
			p := parked[0]
			if p.Message != "m" || p.Attempts != tt.attempts+1 || !strings.Contains(p.Reason, tt.reason) || time.Since(p.At) > time.Minute {
				t.Errorf("parked is %+v, want m after %d attempts because of %q", p, tt.attempts+1, tt.reason)
			}
			if p.Until.Before(tt.message.ExpiresAt.Add(push.RepeatWindow - time.Second)) {
				t.Errorf("it is kept until %v, which is before its message goes", p.Until)
			}
			if left := c.waiting(); len(left) != 0 {
				t.Errorf("in the queue there are still %+v", left)
			}
		})
	}
}

func (c *cluster) putTried(id push.MessageID, attempts int) {
	c.t.Helper()
	if err := c.store.PutOutbox(c.t.Context(), []store.OutboxEntry{{Message: id, DueAt: time.Now().Add(-time.Second), Attempts: attempts}}); err != nil {
		c.t.Fatal(err)
	}
}

// TestFailuresAreNotShared has one message fail all the others of its batch, and
// still get none of them parked.
func TestFailuresAreNotShared(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, func(_ *cluster, st store.Store) dispatchfn.Store {
		return pickyStore{Store: st, unwritable: "poison"}
	})
	for _, id := range []string{"a", "poison", "b"} {
		m := message(id, toUsers("42"))
		c.insert(m)
		c.putTried(m.ID, 11)
	}
	if _, err := c.SweepOutbox(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[push.MessageID]bool{"a": true, "poison": false, "b": true} {
		if got := c.inbox("#42", id) != 0; got != want {
			t.Errorf("%s got through: %v, want %v", id, got, want)
		}
	}
}

func TestReplayedGoesOut(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	n := c.node(route("#42", 1))
	m := message("m", toUsers("42"))
	c.insert(m)
	c.put(-time.Second, m)
	at := time.Now()
	if err := c.store.ParkOutbox(t.Context(), []store.ParkedEntry{{Message: "m", At: at, Until: at.Add(time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	if claimed, err := c.SweepOutbox(t.Context()); claimed != 0 || err != nil {
		t.Fatalf("a sweep took %d parked messages, %v", claimed, err)
	}
	if ok, err := c.store.ReplayParked(t.Context(), "m", at.Add(-time.Second)); !ok || err != nil {
		t.Fatalf("ReplayParked = %v, %v", ok, err)
	}
	if claimed, err := c.SweepOutbox(t.Context()); claimed != 1 || err != nil {
		t.Fatalf("SweepOutbox = %d, %v, want 1", claimed, err)
	}
	if got := names(n.got()); got != "#42:m" {
		t.Errorf("the node got %q, want m", got)
	}
}

// TestScheduled has one message fall due, one that is not due yet, and one that
// was cancelled.
func TestScheduled(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	n := c.node(route("#42", 1))
	due, later, cancelled := message("due", toUsers("42")), message("later", toUsers("42")), message("cancelled", toUsers("42"))
	due.DeliverAt, cancelled.DeliverAt = time.Now().Add(-time.Second), time.Now().Add(-time.Second) // by Redis' clock as well
	later.DeliverAt = time.Now().Add(time.Minute)
	for _, m := range []*push.Message{due, later, cancelled} {
		c.insert(m)
		if err := c.store.PutOutbox(t.Context(), []store.OutboxEntry{{Message: m.ID, DueAt: m.DeliverAt}}); err != nil {
			t.Fatal(err)
		}
	}
	if done, err := c.store.CancelOutbox(t.Context(), "cancelled", time.Now(), time.Now().Add(time.Hour)); !done || err != nil {
		t.Fatalf("CancelOutbox = %v, %v", done, err)
	}
	for range 2 {
		if _, err := c.SweepOutbox(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(n.got()); got != "#42:due" {
		t.Errorf("the node got %q, want what is due alone", got)
	}
}
