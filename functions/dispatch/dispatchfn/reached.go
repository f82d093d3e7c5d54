package dispatchfn

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/shared/push"
)

// reachedMemory is how long it is remembered that a node took something: as long
// as a lease lasts.
const reachedMemory = 15 * time.Second

// reached holds the nodes that took something lately. In a new term Redis knows
// neither them nor their routes, and they would notice only when they renew
// their leases; meanwhile a message with a short ttl would expire.
type reached struct {
	mu   sync.Mutex // guards what follows
	term int64      // the newest that was seen; 0: none
	at   map[push.NodeID]time.Time
}

// note notes that a node took something at now.
func (r *reached) note(node push.NodeID, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at[node] = now
}

// in notes the term in force and returns, once for each that is new, the nodes
// that took something in the time before now.
func (r *reached) in(term push.Term, now time.Time) []push.NodeID {
	r.mu.Lock()
	defer r.mu.Unlock()
	if term.Number <= r.term {
		return nil
	}
	first := r.term == 0
	r.term = term.Number
	if first {
		return nil
	}
	var nodes []push.NodeID
	for node, at := range r.at {
		if now.Sub(at) >= reachedMemory {
			delete(r.at, node)
			continue
		}
		nodes = append(nodes, node)
	}
	return nodes
}

// rouse tells nodes to look for themselves, all side by side. It returns when
// each has answered or missed its deadline. Whom it does not reach notices by
// itself.
func (h *Handler) rouse(ctx context.Context, nodes []push.NodeID) {
	var g errgroup.Group
	g.SetLimit(h.cfg.Fanout)
	for _, node := range nodes {
		g.Go(h.guard(func() error {
			deadline, cancel := context.WithTimeout(ctx, h.cfg.PushTime)
			defer cancel()
			_, err := h.nodes.Deliver(deadline, node, push.DeliverRequest{Beat: true})
			h.metrics.requests.WithLabelValues(resultOf(err)).Inc()
			return nil
		}))
	}
	_ = g.Wait() // whom it does not reach is all the same
}
