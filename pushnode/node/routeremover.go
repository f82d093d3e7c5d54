package node

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/telemetry"
)

// A routeRemover removes routes of channels that have no connection any more,
// in batches. Removing may fail: Dispatch removes what it finds stale.
type routeRemover struct {
	node     push.NodeID
	reg      *registry.Registry
	log      *slog.Logger
	metrics  *metrics
	wake     chan struct{}
	removals telemetry.Lapse // for the log

	mu      sync.Mutex // guards what follows
	pending []registry.ChannelRoute
}

func (r *routeRemover) remove(route registry.ChannelRoute) {
	r.mu.Lock()
	r.pending = append(r.pending, route)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *routeRemover) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.wake:
			r.flush(ctx)
		}
	}
}

// flush removes what is pending.
func (r *routeRemover) flush(ctx context.Context) {
	r.mu.Lock()
	pending := r.pending
	r.pending = nil
	r.mu.Unlock()
	for batch := range slices.Chunk(pending, routeBatch) {
		err := r.reg.RemoveRoutes(ctx, r.node, batch)
		r.removals.Note(r.log, err)
		if err != nil {
			r.metrics.dropped.WithLabelValues("route_removal").Add(float64(len(batch)))
		}
	}
}
