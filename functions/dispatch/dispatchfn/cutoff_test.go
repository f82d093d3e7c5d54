package dispatchfn_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
	"pushcluster/shared/store"
)

// replicate makes other a replica of one that has all of it, and returns what cuts it
// off and makes it a primary.
func replicate(t *testing.T, one, other *registrytest.Server) (cut func()) {
	t.Helper()
	do := func(s *registrytest.Server, args ...string) any {
		answer, err := registrytest.Do(s.Addr(), args...)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return answer
	}
	host, port, _ := net.SplitHostPort(one.Addr())
	do(one, "CONFIG", "SET", "repl-diskless-sync-delay", "0") // else it waits for others
	do(other, "REPLICAOF", host, port)
	return func() {
		// One replica has all of what was written before.
		if n := do(one, "WAIT", "1", "60000"); fmt.Sprint(n) != ":1" {
			t.Fatalf("%v replicas have what was written, want 1", n)
		}
		do(other, "REPLICAOF", "NO", "ONE")
	}
}

// elsewhere returns another Dispatch with the store of c, whose Redis is s.
func (c *cluster) elsewhere(s *registrytest.Server) *cluster {
	c.t.Helper()
	o := &cluster{t: c.t, redis: s, store: c.store, prom: prometheus.NewRegistry()}
	var err error
	if o.reg, err = registry.Open(s.URL(), o.store, registry.Config{Timeout: 20 * time.Second, LeaseTime: patience}); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = o.reg.Close() })
	cfg := dispatchfn.Config{Deadline: patience, PushTime: patience, AskTime: patience, OutboxClaim: patience}
	if o.Handler, err = dispatchfn.New(cfg, o.reg, o.store, newNodes(c.t, o.reg, o.prom), slog.New(slog.DiscardHandler), o.prom); err != nil {
		c.t.Fatal(err)
	}
	return o
}

// TestCutOffWithItsRedis has a replica take over from a Redis that stays, with one
// Dispatch, for itself: both Dispatches reach the store. What either confirms, in
// whatever order they take turns, reaches who reads where the replica has taken over.
func TestCutOffWithItsRedis(t *testing.T) {
	old := newCluster(t, dispatchfn.Config{}, nil)
	other := registrytest.Redis(t)
	if old.redis.Mini() != nil || other.Mini() != nil {
		t.Skip("skipped: replicas are redis-server's, which is not installed")
	}
	cut := replicate(t, old.redis, other)
	dispatch := func(c *cluster, id string) {
		m := message(id, push.Recipients{Channels: []push.Channel{"news"}})
		c.insert(m)
		if p := c.Dispatch(t.Context(), []*push.Message{m}, false)[0]; p != nil {
			t.Errorf("%s is not confirmed: %v", id, p)
		}
	}
	dispatch(old, "before")
	cut()

	const some = 5
	var confirmed int // by the one that is cut off
	going, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; t.Context().Err() == nil; n++ {
			dispatch(old, fmt.Sprintf("old-%d", n))
			if confirmed++; confirmed == some {
				close(going) // nobody has another term yet
			}
			if term, err := old.reg.Term(t.Context()); err != nil || term.Number > 2 {
				return // it has had a turn of its own
			}
		}
	}()
	<-going
	now := old.elsewhere(other)
	reader := &follower{c: now, seen: map[push.MessageID]int{}}
	step := func() {
		if err := reader.step(t.Context(), "news"); err != nil {
			t.Fatal(err)
		}
	}
	sent := 0
	for going := true; going; {
		dispatch(now, fmt.Sprintf("new-%d", sent))
		sent++
		step()
		select {
		case <-done:
			going = false
		default:
		}
	}
	dispatch(now, "last") // who reads there learns of the other side's term
	step()
	seen := func(id string) {
		if reader.seen[push.MessageID(id)] == 0 {
			t.Errorf("message %s was confirmed and not read", id)
		}
	}
	seen("before")
	seen("last")
	for n := range confirmed {
		seen(fmt.Sprintf("old-%d", n))
	}
	for n := range sent {
		seen(fmt.Sprintf("new-%d", n))
	}
	term, err := now.reg.Term(t.Context())
	if err != nil || term.Number < 4 {
		t.Errorf("Term = %+v, %v, want the fourth at least: each side has had two", term, err)
	}
	t.Logf("%d confirmed by who is cut off, %d by the other", confirmed, sent)
}

// Another Dispatch, which is cut off, had the message first, and its write comes to the
// inbox when this one has appended in a later term: what stands then below the floor,
// where readers have passed, is moved.
func TestLateWriteOfAnotherDispatch(t *testing.T) {
	var late func()
	c := newCluster(t, dispatchfn.Config{}, func(_ *cluster, st store.Store) dispatchfn.Store {
		return faultyStore{st, func() error {
			if late != nil {
				late()
				late = nil
			}
			return nil
		}}
	})
	c.send(false, message("m1", toUsers("42")))
	c.redis.FlushAll()
	term, err := c.reg.Term(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	late = func() {
		placed, err := c.store.WriteInbox(t.Context(), []store.InboxEntry{
			{Channel: "#42", Offset: term.Floor - 1, Message: "m2", ExpiresAt: time.Now().Add(time.Hour)}})
		if err != nil || placed[0].Taken {
			t.Errorf("the late write: %+v, %v", placed, err)
		}
	}
	c.send(true, message("m2", toUsers("42")))
	log := c.log("#42")
	if at := c.inbox("#42", "m2"); names(log) != "#42:m2" || at != log[0].Offset || at <= term.Floor {
		t.Errorf("m2 is at %d in the inbox, the log holds %v, the floor is %d", at, log, term.Floor)
	}
}

// An askedStore runs a function once, after a question for places.
type askedStore struct {
	dispatchfn.Store
	once  sync.Once
	after func()
}

func (s *askedStore) PlacedAt(ctx context.Context, id push.MessageID, channels []push.Channel) (map[push.Channel]push.Offset, error) {
	placed, err := s.Store.PlacedAt(ctx, id, channels)
	s.once.Do(s.after)
	return placed, err
}

// The inbox says where a message stands, which the log has forgotten, and then another
// term begins: it is judged by that one.
func TestTermChangesAfterTheInboxHasDecided(t *testing.T) {
	var other *cluster
	var asked askedStore
	c := newCluster(t, dispatchfn.Config{}, func(_ *cluster, st store.Store) dispatchfn.Store {
		asked.Store = st
		return &asked
	})
	other = c.elsewhere(c.redis)
	asked.after = func() {
		c.redis.FlushAll()
		if _, err := other.reg.Term(t.Context()); err != nil { // the next one begins
			t.Error(err)
		}
	}
	m1, m2 := message("m1", toUsers("42")), message("m2", toUsers("42"))
	c.send(false, m1)
	if _, err := registrytest.Do(c.redis.Addr(), "DEL", "push:{#42}:log", "push:{#42}:seen"); err != nil {
		t.Fatal(err)
	}
	c.send(true, m1, m2)
	term, err := c.reg.Term(t.Context())
	first, second := c.inbox("#42", "m1"), c.inbox("#42", "m2")
	if err != nil || term.Number != 2 || first <= term.Floor || second <= first {
		t.Errorf("m1 is at %d and m2 at %d in term %+v (%v), want them above the floor of the second, in this order", first, second, term, err)
	}
}

// A message that was confirmed long ago stays where it is, also where the floor is far
// ahead of Redis' clock, which was set back.
func TestOldRepeatStaysWithAClockSetBack(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	ahead := func(by time.Duration) { // as if the clock had been so far ahead, and Redis was emptied
		t.Helper()
		kept, err := c.reg.Term(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		next := kept
		next.Ceiling += push.OffsetSpan(by)
		if swapped, err := c.store.SwapTerm(t.Context(), kept, next); !swapped || err != nil {
			t.Fatal(swapped, err)
		}
		c.redis.FlushAll()
	}
	ahead(2 * time.Hour)
	m := message("m1", toUsers("42"))
	c.send(false, m)
	was := c.inbox("#42", "m1")
	ahead(time.Hour)
	c.send(true, m)
	if now := c.inbox("#42", "m1"); now != was {
		t.Errorf("m1 went from %v to %v", was.Time(), now.Time())
	}
}
