package dispatchfn_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A watchedStore tells what messages were loaded.
type watchedStore struct {
	dispatchfn.Store
	loaded func(map[push.MessageID]store.Record)
}

func (s watchedStore) LoadMessages(ctx context.Context, ids []push.MessageID) (map[push.MessageID]store.Record, error) {
	records, err := s.Store.LoadMessages(ctx, ids)
	s.loaded(records)
	return records, err
}

// newWeighed is newCluster with a store that adds to loaded how many bytes of data
// the messages have that were loaded.
func newWeighed(t *testing.T, cfg dispatchfn.Config, loaded *atomic.Int64) *cluster {
	return newCluster(t, cfg, func(_ *cluster, st store.Store) dispatchfn.Store {
		return watchedStore{st, func(records map[push.MessageID]store.Record) {
			for _, r := range records {
				loaded.Add(int64(len(r.Data)))
			}
		}}
	})
}

// TestOutboxLoadsInBounds: of large messages a look takes no more than it has
// room for, of both kinds some, and puts the rest back untried; in the end all
// have gone out, each channel's in their order.
func TestOutboxLoadsInBounds(t *testing.T) {
	const each, data, bound = 40, 1000, 20_000
	var loaded atomic.Int64
	c := newWeighed(t, dispatchfn.Config{OutboxBytes: bound}, &loaded)
	large := func(id string, to push.Recipients) *push.Message {
		m := message(id, to)
		m.Data = json.RawMessage(`"` + strings.Repeat("x", data-2) + `"`)
		return m
	}
	var ordered, plain []*push.Message
	for i := range each {
		ordered = append(ordered, large(fmt.Sprint("ordered", i), toUsers("42")))
		plain = append(plain, large(fmt.Sprint("plain", i), toUsers("43")))
	}
	c.line(nil, ordered...)
	c.insert(plain...)
	c.put(-1, plain...)

	for looks := 0; len(c.log("#42")) < each || len(c.log("#43")) < each; looks++ {
		if looks == 2*each {
			t.Fatalf("after %d looks %d ordered and %d others have gone out, want %d of each", looks, len(c.log("#42")), len(c.log("#43")), each)
		}
		before, after := loaded.Load(), 2*each-len(c.log("#42"))-len(c.log("#43"))
		c.sweep()
		if got := loaded.Load() - before; got > bound+data {
			t.Fatalf("a look with %d entries before it loaded %d bytes, want %d at most", after, got, bound+data)
		}
		if looks == 0 && (len(c.log("#42")) == 0 || len(c.log("#43")) == 0) {
			t.Errorf("of the first look %d ordered and %d others have gone out, want some of each", len(c.log("#42")), len(c.log("#43")))
		}
	}
	for i, e := range c.log("#42") {
		if e.Message.ID != ordered[i].ID {
			t.Fatalf("place %d has %s, want %s", i, e.Message.ID, ordered[i].ID)
		}
	}
	if tried := c.metric("dispatch_outbox_total", "retry"); tried != 0 {
		t.Errorf("%v tries have failed, want none", tried)
	}
}

// TestOutboxLoadsInBoundsWhateverComesFirst: small messages do not tell how large
// those behind them are.
func TestOutboxLoadsInBoundsWhateverComesFirst(t *testing.T) {
	const data, bound, mostAtOnce = 1000, 20_000, 32
	var loaded atomic.Int64
	c := newWeighed(t, dispatchfn.Config{OutboxBytes: bound}, &loaded)
	var list []*push.Message
	for i := range 100 {
		m := message(fmt.Sprintf("m%02d", i), toUsers("42"))
		if i >= 16 {
			m.Data = json.RawMessage(`"` + strings.Repeat("x", data-2) + `"`)
		}
		list = append(list, m)
	}
	c.line(nil, list...)
	c.sweep()
	if got := loaded.Load(); got > bound+mostAtOnce*data {
		t.Errorf("a look loaded %d bytes, want %d at most", got, bound+mostAtOnce*data)
	}
}

// TestSmallOnesGoBeforeWideOnes: a message to one user that waits for no wide one
// goes out with the first look, however many wide ones are before it. One that does
// wait keeps its place.
func TestSmallOnesGoBeforeWideOnes(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{OutboxBytes: 1}, nil) // one question
	many := make([]push.UserID, 20)
	for i := range many {
		many[i] = push.UserID(fmt.Sprint("user", i))
	}
	var list []*push.Message
	for i := range 40 {
		list = append(list, message(fmt.Sprintf("wide%02d", i), toUsers(many...)))
	}
	c.line(nil, append(list, message("behind", toUsers("user0")), message("small", toUsers("42")))...)
	c.sweep()
	if got := len(c.log("#42")); got != 1 {
		t.Errorf("of the first look %d messages have gone out to 42, want 1", got)
	}
	for looks := 1; len(c.log("#user0")) < len(list)+1; looks++ {
		if looks == len(list) {
			t.Fatalf("after %d looks %d messages have gone out to user0, want %d", looks, len(c.log("#user0")), len(list)+1)
		}
		c.sweep()
	}
	for i, e := range c.log("#user0") {
		want := push.MessageID("behind")
		if i < len(list) {
			want = list[i].ID
		}
		if e.Message.ID != want {
			t.Fatalf("place %d of user0 has %s, want %s", i, e.Message.ID, want)
		}
	}
}

// TestLateLookTouchesNothing: what another process has claimed and tried, since the
// claim of a look ran out while that loaded messages, is not put back as it was.
func TestLateLookTouchesNothing(t *testing.T) {
	const many = 40
	meddled := false
	c := newCluster(t, dispatchfn.Config{OutboxClaim: time.Millisecond, OutboxBytes: 1}, func(c *cluster, st store.Store) dispatchfn.Store {
		return watchedStore{st, func(map[push.MessageID]store.Record) {
			if meddled {
				return
			}
			meddled = true
			var taken []store.OutboxEntry
			for end := time.Now().Add(patience); len(taken) < many; {
				now := c.reg.Now()
				more, err := c.store.ClaimOutbox(t.Context(), now, now.Add(time.Minute), many)
				if taken = append(taken, more...); err != nil || time.Now().After(end) {
					t.Fatalf("another process has claimed %d entries, %v, want %d", len(taken), err, many)
				}
			}
			for i := range taken {
				taken[i].Attempts++
				taken[i].DueAt = c.reg.Now().Add(time.Minute)
			}
			if err := c.store.RetryOutbox(t.Context(), taken); err != nil {
				t.Fatal(err)
			}
		}}
	})
	for i := range many {
		c.line(nil, message(fmt.Sprintf("m%02d", i), toUsers(push.UserID(fmt.Sprint(i)))))
	}
	if _, err := c.SweepOutbox(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The last one was not loaded: there was no room.
	if e := c.entry("m39"); e.Attempts != 1 || !e.DueAt.After(c.reg.Now()) {
		t.Errorf("it waits with %d attempts for %v, want as the other process left it", e.Attempts, e.DueAt)
	}
}

// A narrowStore hands out no more than most entries, or messages, with one call.
type narrowStore struct {
	dispatchfn.Store
	most int
}

func (s narrowStore) ClaimOutbox(ctx context.Context, now, until time.Time, limit int) ([]store.OutboxEntry, error) {
	if limit > s.most {
		return nil, fmt.Errorf("%w: %d entries are too many", store.ErrUnavailable, limit)
	}
	return s.Store.ClaimOutbox(ctx, now, until, limit)
}

func (s narrowStore) LoadMessages(ctx context.Context, ids []push.MessageID) (map[push.MessageID]store.Record, error) {
	if len(ids) > s.most {
		return nil, fmt.Errorf("%w: %d messages are too many", store.ErrUnavailable, len(ids))
	}
	return s.Store.LoadMessages(ctx, ids)
}

// TestLookTakesWhatTheStoreHandsOut: a store that gives not all at once in its time
// is asked for less, and what it gave goes out although it gave no more.
func TestLookTakesWhatTheStoreHandsOut(t *testing.T) {
	const most, many = 20, 60
	c := newCluster(t, dispatchfn.Config{}, func(_ *cluster, st store.Store) dispatchfn.Store { return narrowStore{st, most} })
	for i := range many {
		c.line(nil, message(fmt.Sprintf("m%02d", i), toUsers("42")))
	}
	failed := 0
	for looks := 0; len(c.log("#42")) < many; looks++ {
		if looks == many {
			t.Fatalf("after %d looks, of which %d failed, %d messages have gone out, want %d", looks, failed, len(c.log("#42")), many)
		}
		if _, err := c.SweepOutbox(t.Context()); err != nil {
			failed++
		}
	}
}
