package node

import (
	"context"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/telemetry"
)

// grant takes the lease and notes the term.
func (n *Node) grant(ctx context.Context) error {
	if _, err := n.reg.Grant(ctx, n.lease()); err != nil {
		return err
	}
	n.renewed.Store(time.Now())
	n.metrics.leases.WithLabelValues("granted").Inc()
	return nil
}

func (n *Node) lease() registry.Lease {
	return registry.Lease{Node: n.cfg.ID, Draining: n.state.Load() == stateDraining}
}

// keepLease renews the lease until ctx ends. Where the lease was lost or the
// term changed, Redis may have forgotten our routes, and messages may have
// passed us by: everything is registered and read again, beside the renewals.
func (n *Node) keepLease(ctx context.Context) error {
	t := time.NewTicker(n.cfg.RenewEvery)
	defer t.Stop()
	renewal := telemetry.Lapse{What: "renewal of the lease"}
	r := &restorer{node: n, done: make(chan restored, 1)}
	if term, err := n.reg.Term(ctx); err == nil {
		r.term = term.Number
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case result := <-r.done:
			if r.ended(result) {
				r.start(ctx)
			} // else the next renewal starts another
			continue
		case <-n.renewSoon:
		case <-t.C:
		}
		term, lost, err := n.renew(ctx)
		if ctx.Err() == nil {
			renewal.Note(n.log, err)
		}
		if err != nil {
			n.metrics.leases.WithLabelValues("failed").Inc()
			continue
		}
		if lost || term.Number != r.term {
			r.wanted++
			r.term = term.Number
		}
		r.start(ctx)
	}
}

// renew renews the lease, or takes it again if it was lost.
func (n *Node) renew(ctx context.Context) (term push.Term, lost bool, err error) {
	held, term, err := n.reg.Renew(ctx, n.lease())
	if err == nil && !held {
		n.metrics.leases.WithLabelValues("lost").Inc()
		n.log.Warn("lease lost, registering again", "node", n.cfg.ID)
		term, err = n.reg.Grant(ctx, n.lease())
	}
	if err != nil {
		return push.Term{}, false, err
	}
	n.renewed.Store(time.Now())
	n.metrics.leases.WithLabelValues("renewed").Inc()
	return term, !held, nil
}

// A restorer registers and reads every channel again, as often as something
// happened that makes it necessary, one time after another.
type restorer struct {
	node    *Node
	term    int64 // that the newest renewal found
	wanted  int   // how often it was necessary
	have    int   // up to which time that is done
	running bool
	done    chan restored
}

// restored is how a run ended that began when that many were wanted.
type restored struct {
	wanted int
	err    error
}

// start starts a run if one is due and none is under way.
func (r *restorer) start(ctx context.Context) {
	if r.running || r.have == r.wanted {
		return
	}
	r.running = true
	wanted, n := r.wanted, r.node
	n.metrics.leases.WithLabelValues("restore").Inc()
	n.log.Info("registering every channel again", "node", n.cfg.ID, "term", r.term, "channels", n.hub.Len())
	n.spawn(func() { r.done <- restored{wanted, n.restore(ctx, readAll)} })
}

// ended takes the result of a run and reports whether it did what it should.
func (r *restorer) ended(result restored) bool {
	r.running = false
	if result.err != nil {
		r.node.log.Warn("channels not all registered, will try again", "err", result.err)
		return false
	}
	r.have = result.wanted
	return true
}
