package chaos

import (
	"context"
	"fmt"
	"net"
	"time"

	"pushcluster/shared/registry/registrytest"
)

// lag is of how much a replica knows nothing that takes over from a primary it
// had lost. Of awayEvery clients one is away for as long: it looks for what it
// missed where that is not.
const (
	lag       = 4 * time.Second
	awayEvery = 5
)

// A takeover is one way in which a replica becomes the primary.
type takeover struct {
	what    string
	lags    bool                                      // the replica lacks what was written last
	begin   func(s *shard) error                      // what the replica takes over for
	restore func(ctx context.Context, s *shard) error // afterwards, with both changed; nil: nothing
}

// killed is the primary's death. It comes back, empty, when it is a replica.
func killed(ctx context.Context, s *shard) error {
	old := s.replica
	if err := old.start(ctx); err != nil || s.sentinels == nil {
		return err
	}
	host, port, _ := net.SplitHostPort(s.primary.addr) // the sentinels would do it, later
	return old.do("REPLICAOF", host, port)
}

var (
	// A primary that dies while its replica was cut from it.
	dies = takeover{what: "death", lags: true, restore: killed, begin: func(s *shard) error {
		s.primary.kill()
		return nil
	}}
	// A primary that stands still, and goes on as if it still were one.
	freezes = takeover{what: "freeze", begin: func(s *shard) error {
		s.primary.freeze()
		return nil
	}, restore: func(ctx context.Context, s *shard) error {
		defer s.replica.thaw()
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
		return ctx.Err()
	}}
	// An operator has the sentinels change primary and replica.
	ordered = takeover{what: "order to Sentinel", begin: func(s *shard) error {
		return awaitRedis(context.Background(), "a failover", func() error { // not while they are at another
			_, err := registrytest.Do(s.sentinels[0].addr, "SENTINEL", "FAILOVER", masterName)
			return err
		})
	}}
	// An operator has a replica of a Cluster take over in agreement with the others,
	agreed = takeover{what: "CLUSTER FAILOVER", begin: func(s *shard) error { return s.replica.do("CLUSTER", "FAILOVER") }}
	// or without asking anybody.
	forced = takeover{what: "CLUSTER FAILOVER TAKEOVER", lags: true, begin: func(s *shard) error {
		return s.replica.do("CLUSTER", "FAILOVER", "TAKEOVER")
	}, restore: func(_ context.Context, s *shard) error {
		return s.replica.do("ACL", "SETUSER", "default", "allcommands")
	}}
)

// failOverSentinel has the replica take over again and again.
func failOverSentinel(ctx context.Context, w *world) error {
	s := w.cluster.replicas.shards[0]
	return w.failOver(ctx, []*shard{s, s, s}, []takeover{dies, freezes, ordered})
}

// failOverShards has the replicas of single shards of a Cluster take over, one of
// them twice: the second time it is the former primary.
func failOverShards(ctx context.Context, w *world) error {
	s := w.cluster.replicas.shards
	return w.failOver(ctx, []*shard{s[0], s[0], s[1], s[2]}, []takeover{agreed, forced, dies, freezes})
}

// failOver has one takeover after another happen, each to its shard. Nobody may
// have to reconnect for it but those who were away.
func (w *world) failOver(ctx context.Context, shards []*shard, takeovers []takeover) error {
	before, away := w.closes.total(), 0
	for i, t := range takeovers {
		n, err := w.takeOver(ctx, shards[i], t)
		if err != nil {
			return err
		}
		away += n
		if err := w.cluster.replicas.awaitWhole(ctx); err != nil {
			return err
		}
		if err := w.rest(ctx, 3*time.Second); err != nil {
			return err
		}
	}
	if n := w.closes.total() - before - away; n != 0 {
		return fmt.Errorf("connections ended:%s; %d had to reconnect besides %d that were away", w.closes.String(), n, away)
	}
	return nil
}

// sendAway has some clients go away and returns them, and what brings them back.
func (w *world) sendAway() (away int, comeBack func()) {
	var all []func()
	for i := 0; i < len(w.clients); i += awayEvery {
		all = append(all, w.clients[i].goAway())
	}
	return len(all), func() {
		for _, back := range all {
			back()
		}
	}
}

// takeOver has one takeover happen, and returns how many clients were away for it.
func (w *world) takeOver(ctx context.Context, s *shard, t takeover) (away int, err error) {
	comeBack := func() {}
	if t.lags {
		w.say("%s is cut from %s", s.replica.name, s.primary.name)
		if err := s.part(); err != nil {
			return 0, err
		}
		away, comeBack = w.sendAway()
		if err := w.rest(ctx, lag); err != nil {
			return 0, err
		}
	}
	w.say("%s: %s", s.primary.name, t.what)
	end := w.ledger.fault(t.what + " of " + s.primary.name)
	defer end()
	if err := t.begin(s); err != nil {
		return 0, err
	}
	if err := s.takenOver(ctx); err != nil {
		s.primary.thaw()
		return 0, err
	}
	w.say("%s has taken over", s.primary.name)
	end()
	comeBack()
	if t.restore != nil {
		if err := t.restore(ctx, s); err != nil {
			return 0, err
		}
	}
	return away, w.awaitWhole(ctx, 20*time.Second)
}
