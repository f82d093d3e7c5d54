package dispatchfn_test

import (
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
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
// Dispatch, for itself: both Dispatches reach the store. What either confirms reaches
// who reads where the replica has taken over, and who is cut off confirms no more.
func TestCutOffWithItsRedis(t *testing.T) {
	old := newCluster(t, dispatchfn.Config{}, nil)
	other := registrytest.Redis(t)
	if old.redis.Mini() != nil || other.Mini() != nil {
		t.Skip("skipped: replicas are redis-server's, which is not installed")
	}
	cut := replicate(t, old.redis, other)
	toNews := push.Recipients{Channels: []push.Channel{"news"}}
	dispatch := func(c *cluster, id string) bool {
		m := message(id, toNews)
		c.insert(m)
		return c.Dispatch(t.Context(), []*push.Message{m}, false)[0] == nil
	}
	if !dispatch(old, "before") {
		t.Fatal("nothing is confirmed before the failover")
	}
	cut()

	const some = 5
	var confirmed []string // by the one that is cut off
	var begun atomic.Bool  // the other one has confirmed
	done, going := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n, refused := 0, 0; refused < 3; n++ {
			id := fmt.Sprintf("old-%d", n)
			if dispatch(old, id) {
				refused = 0
				if confirmed = append(confirmed, id); len(confirmed) == some {
					close(going)
				}
			} else if begun.Load() {
				refused++
			}
		}
	}()
	select {
	case <-going: // nobody has another term yet
	case <-time.After(patience):
		t.Fatalf("%d are not confirmed before there is another term", some)
	}
	now := old.elsewhere(other)
	reader := &follower{c: now, seen: map[push.MessageID]int{}}
	for n := 0; ; n++ {
		if !dispatch(now, fmt.Sprintf("new-%d", n)) {
			t.Errorf("message new-%d is not confirmed, where the replica has taken over", n)
		}
		begun.Store(true)
		if err := reader.step(t.Context(), "news"); err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
		default:
			continue
		}
		break
	}
	if err := reader.step(t.Context(), "news"); err != nil {
		t.Fatal(err)
	}
	for _, id := range append(confirmed, "before") {
		if reader.seen[push.MessageID(id)] == 0 {
			t.Errorf("message %s was confirmed and not read", id)
		}
	}
	term, err := now.reg.Term(t.Context())
	if err != nil || term.Number != 2 {
		t.Errorf("Term = %+v, %v, want the second: who is cut off begins none", term, err)
	}
	t.Logf("%d confirmed by who is cut off", len(confirmed))
}
