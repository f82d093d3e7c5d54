package chaos

import (
	"context"
	"net"
	"time"

	"pushcluster/shared/registry/registrytest"
)

// lag is of how much a replica knows nothing that takes over from a primary it
// had lost.
const lag = 4 * time.Second

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
// have to reconnect for it.
func (w *world) failOver(ctx context.Context, shards []*shard, takeovers []takeover) error {
	before := w.closes.String()
	for i, t := range takeovers {
		if err := w.takeOver(ctx, shards[i], t); err != nil {
			return err
		}
		if err := w.cluster.replicas.awaitWhole(ctx); err != nil {
			return err
		}
		if err := w.rest(ctx, 3*time.Second); err != nil {
			return err
		}
	}
	return w.sameCloses(before)
}

func (w *world) takeOver(ctx context.Context, s *shard, t takeover) error {
	if t.lags {
		w.say("%s is cut from %s", s.replica.name, s.primary.name)
		if err := s.part(); err != nil {
			return err
		}
		if err := w.rest(ctx, lag); err != nil {
			return err
		}
	}
	w.say("%s: %s", s.primary.name, t.what)
	end := w.ledger.fault(t.what + " of " + s.primary.name)
	defer end()
	if err := t.begin(s); err != nil {
		return err
	}
	if err := s.takenOver(ctx); err != nil {
		s.primary.thaw()
		return err
	}
	w.say("%s has taken over", s.primary.name)
	end()
	if t.restore == nil {
		return nil
	}
	return t.restore(ctx, s)
}
