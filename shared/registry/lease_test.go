package registry_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

func TestLive(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		terms := &registrytest.Terms{}
		r := open(t, s, terms, registry.Config{})
		want := func(want ...registry.Lease) {
			t.Helper()
			got, err := r.Live(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(got, func(a, b registry.Lease) int { return cmp.Compare(a.Node, b.Node) })
			if !slices.Equal(got, want) {
				t.Errorf("Live = %v, want %v", got, want)
			}
			held, err := r.Held(t.Context())
			if err != nil || len(held) != len(want) {
				t.Errorf("Held = %v, %v, want %d leases", held, err, len(want))
			}
			for _, l := range held {
				if l.Left <= 0 || l.Left > 15*time.Second || !slices.Contains(want, l.Lease) {
					t.Errorf("Held has %+v, want one of %v that lasts up to 15 s", l, want)
				}
			}
		}
		want()
		for _, l := range []registry.Lease{{Node: "n1"}, {Node: "n2", Draining: true}, {Node: "n3"}} {
			if _, err := r.Grant(t.Context(), l); err != nil {
				t.Fatal(err)
			}
		}
		want(registry.Lease{Node: "n1"}, registry.Lease{Node: "n2", Draining: true}, registry.Lease{Node: "n3"})
		if err := r.Release(t.Context(), "n1"); err != nil {
			t.Fatal(err)
		}
		want(registry.Lease{Node: "n2", Draining: true}, registry.Lease{Node: "n3"})
	})
}

func TestLease(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		terms := &registrytest.Terms{}
		// Each renewal says for how long: the first ones long, whatever the machine
		// does, the one whose lease is to end not.
		node := bench{open(t, s, terms, registry.Config{LeaseTime: time.Hour}), s, terms}
		brief := bench{open(t, s, terms, registry.Config{LeaseTime: 300 * time.Millisecond}), s, terms}
		other := bench{open(t, s, terms, registry.Config{}), s, terms}
		ctx := t.Context()
		live := func() map[push.NodeID]registry.Lease {
			t.Helper()
			got, err := other.Nodes(ctx, []push.NodeID{"n1", "n2"})
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		renew := func(l registry.Lease) bool {
			t.Helper()
			held, _, err := node.Renew(ctx, l)
			if err != nil {
				t.Fatal(err)
			}
			return held
		}
		if got := live(); len(got) != 0 {
			t.Errorf("before any lease: %v", got)
		}
		if renew(registry.Lease{Node: "n1"}) {
			t.Error("a lease that was never granted is held")
		}
		term, err := node.Grant(ctx, registry.Lease{Node: "n1"})
		if err != nil || term.Number != 1 {
			t.Fatalf("Grant = %+v, %v", term, err)
		}
		if got := live(); len(got) != 1 || got["n1"].Draining {
			t.Errorf("after Grant: %v, want n1 at once", got)
		}
		if !renew(registry.Lease{Node: "n1", Draining: true}) {
			t.Error("the lease is not held")
		}
		third := open(t, s, terms, registry.Config{})
		if got, err := third.Nodes(ctx, []push.NodeID{"n1"}); err != nil || !got["n1"].Draining {
			t.Errorf("while draining: %v, %v", got, err)
		}
		if held, _, err := brief.Renew(ctx, registry.Lease{Node: "n1"}); err != nil || !held {
			t.Fatalf("Renew = %v, %v; want the lease held", held, err)
		}
		eventually(t, func() error {
			if got := live(); len(got) != 0 {
				return fmt.Errorf("still alive: %v", got)
			}
			return nil
		})
		// What this process takes for Redis' clock may be ahead of it: only where the
		// lease has ended by that one, too, must it not be renewed.
		eventually(t, func() error {
			key, err1 := registrytest.Do(s.Addr(), "EXISTS", "push:node:n1")
			listed, err2 := registrytest.Do(s.Addr(), "ZCOUNT", "push:nodes", fmt.Sprintf("(%d", time.Now().UnixMilli()), "+inf")
			if key != ":0" || listed != ":0" {
				return errors.Join(fmt.Errorf("Redis has %s and %s of the lease", key, listed), err1, err2)
			}
			return nil
		})
		if renew(registry.Lease{Node: "n1"}) {
			t.Error("an ended lease was renewed")
		}
		if got := live(); len(got) != 0 {
			t.Errorf("a renewal brought back an ended lease: %v", got)
		}
		if _, err := node.Grant(ctx, registry.Lease{Node: "n1"}); err != nil {
			t.Fatal(err)
		}
		if got := live(); len(got) != 1 {
			t.Errorf("after the second Grant: %v", got)
		}
		if err := node.Release(ctx, "n1"); err != nil {
			t.Fatal(err)
		}
		if got, err := open(t, s, terms, registry.Config{}).Nodes(ctx, []push.NodeID{"n1"}); err != nil || len(got) != 0 {
			t.Errorf("after Release: %v, %v", got, err)
		}
	})
}

func TestRenewTellsOfALoss(t *testing.T) {
	tests := map[string]struct {
		lose func(s *registrytest.Server)
		held bool
	}{
		"flushed":           {func(s *registrytest.Server) { s.FlushAll() }, false},
		"restarted empty":   {func(s *registrytest.Server) { s.Stop(); s.Start() }, false},
		"restarted as kept": {func(s *registrytest.Server) { s.StopSaving(); s.Start() }, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, registrytest.Redis(t), registry.Config{})
			before, err := b.Grant(t.Context(), registry.Lease{Node: "n1"})
			if err != nil {
				t.Fatal(err)
			}
			tt.lose(b.server)
			held, after, err := b.Renew(t.Context(), registry.Lease{Node: "n1"})
			if err != nil || held != tt.held || after.Number != before.Number+1 {
				t.Errorf("Renew = %v, %+v, %v; want held=%v in the term after %+v", held, after, err, tt.held, before)
			}
		})
	}
}

func TestRenewKeepsTheCeilingAhead(t *testing.T) {
	s := registrytest.Mini(t)
	b := newBench(t, s, registry.Config{LeaseTime: time.Hour})
	start := time.Now()
	s.Mini().SetTime(start)
	if _, err := b.Grant(t.Context(), registry.Lease{Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	s.Mini().SetTime(start.Add(time.Minute))
	eventually(t, func() error { // a renewal that takes long does not tell the time
		if _, _, err := b.Renew(t.Context(), registry.Lease{Node: "n1"}); err != nil {
			return err
		}
		kept, _ := b.terms.Term(t.Context())
		if ahead := kept.Ceiling.Time().Sub(start.Add(time.Minute)); ahead < 9*time.Second || ahead > 20*time.Second+time.Since(start) {
			return fmt.Errorf("after a renewal the ceiling is %v ahead of Redis' clock", ahead)
		}
		return nil
	})
}

func TestNodesSharesReads(t *testing.T) {
	b := newBench(t, registrytest.Redis(t), registry.Config{})
	if _, err := b.Grant(t.Context(), registry.Lease{Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: b.server.Addr()})
	defer func() { _ = rdb.Close() }()
	if b.server.Mini() == nil {
		if err := rdb.ConfigResetStat(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			got, err := b.Nodes(t.Context(), []push.NodeID{"n1", "gone"})
			if err != nil || len(got) != 1 {
				t.Errorf("Nodes = %v, %v, want n1 alone", maps.Collect(maps.All(got)), err)
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	if b.server.Mini() != nil {
		return // it does not count commands
	}
	stats, err := rdb.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	reads, most := 0, 2+int(took/(50*time.Millisecond)) // one is at least so long after the other
	_, calls, _ := strings.Cut(stats, "cmdstat_eval:calls=")
	if _, err := fmt.Sscanf(calls, "%d,", &reads); err != nil || reads > most {
		t.Errorf("200 calls in %v made %d reads (%v), want at most %d", took, reads, err, most)
	}
}

func TestGrantRefusesBadIDs(t *testing.T) {
	b := newBench(t, registrytest.Mini(t), registry.Config{})
	for _, id := range []push.NodeID{"", "a b", "a{b}"} {
		if _, err := b.Grant(t.Context(), registry.Lease{Node: id}); err == nil {
			t.Errorf("Grant(%q) succeeded", id)
		}
	}
}
