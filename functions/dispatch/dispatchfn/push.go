package dispatchfn

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/shared/nodeclient"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
)

// A parcel is everything of a batch that is for one node.
type parcel struct {
	node   push.NodeID
	places []int
	routes []registry.ChannelRoute // that brought each of places here
}

// push brings the places of todo to the nodes that have routes for them, all
// nodes side by side. It returns when each has answered or missed its deadline.
func (b *batch) push(ctx context.Context, todo []int) {
	parcels := b.parcels(todo)
	if len(parcels) == 0 {
		return
	}
	bare := make([]push.Message, len(b.messages))
	for i, m := range b.messages {
		bare[i] = *m
		bare[i].To = push.Recipients{}
	}
	var g errgroup.Group
	g.SetLimit(b.h.cfg.Fanout)
	for _, p := range parcels {
		g.Go(func() error {
			b.deliver(ctx, p, bare)
			return nil
		})
	}
	_ = g.Wait() // none of them returns an error
}

// parcels sorts the places of todo by node, in their order.
func (b *batch) parcels(todo []int) []*parcel {
	byNode := make(map[push.NodeID]*parcel)
	var all []*parcel
	for _, i := range todo {
		p := &b.places[i]
		if p.at.Err != nil {
			continue
		}
		for _, r := range p.at.Routes {
			d := byNode[r.Node]
			if d == nil {
				d = &parcel{node: r.Node}
				byNode[r.Node] = d
				all = append(all, d)
			}
			d.places = append(d.places, i)
			d.routes = append(d.routes, registry.ChannelRoute{Channel: p.channel, Registration: r.Registration})
		}
	}
	return all
}

// deliver brings one parcel to its node, if that is alive, and removes routes
// that the node, or its successor at the address, says are stale. A lease that
// is gone and a failure on the way say nothing about routes.
func (b *batch) deliver(ctx context.Context, p *parcel, bare []push.Message) {
	h := b.h
	if h.skipped.has(p.node) {
		h.unpushed(pushSkipped, len(p.places))
		return
	}
	live, err := h.reg.Nodes(ctx, []push.NodeID{p.node})
	if err != nil {
		h.unpushed(pushNoAnswer, len(p.places))
		return
	}
	if _, alive := live[p.node]; !alive {
		h.unpushed(pushNoLease, len(p.places))
		return
	}
	deadline, cancel := context.WithTimeout(ctx, h.cfg.PushTime)
	answer, err := h.nodes.Deliver(deadline, p.node, b.request(p, bare))
	cancel()
	result := resultOf(err)
	h.metrics.requests.WithLabelValues(result).Inc()
	switch result {
	case pushOK:
		h.metrics.entries.Add(float64(len(p.places) - len(answer.Unknown)))
		h.removeUnknown(ctx, p, answer.Unknown)
		return
	case pushOtherNode:
		h.removeRoutes(ctx, p.node, p.routes, pushOtherNode)
	case pushTimeout:
		if ctx.Err() == nil { // it was the node that took too long, not the caller who left
			h.skipped.add(p.node, h.cfg.SkipTime)
		}
	}
	h.unpushed(result, len(p.places))
	h.log.Debug("push failed", "node", p.node, "entries", len(p.places), "err", err)
}

// request returns what the node of p gets: each message once, in the order of
// their places.
func (b *batch) request(p *parcel, bare []push.Message) push.DeliverRequest {
	req := push.DeliverRequest{Entries: make([]push.DeliverEntry, len(p.places))}
	index := make(map[int]int)
	for n, i := range p.places {
		pl := &b.places[i]
		at, ok := index[pl.message]
		if !ok {
			at = len(req.Messages)
			index[pl.message] = at
			req.Messages = append(req.Messages, bare[pl.message])
		}
		req.Entries[n] = push.DeliverEntry{Channel: pl.channel, Offset: pl.at.Offset, Prev: pl.at.Prev, Message: at}
	}
	return req
}

func resultOf(err error) string {
	switch {
	case err == nil:
		return pushOK
	case errors.Is(err, nodeclient.ErrOtherNode):
		return pushOtherNode
	case errors.Is(err, nodeclient.ErrTimeout):
		return pushTimeout
	case errors.Is(err, nodeclient.ErrRefused):
		return pushRefused
	case errors.Is(err, nodeclient.ErrAnswer):
		return pushBadAnswer
	}
	return pushUnreachable
}

func (h *Handler) unpushed(reason string, entries int) {
	h.metrics.unpushed.WithLabelValues(reason).Add(float64(entries))
}

// removeUnknown removes the routes of the channels that the node does not have,
// under the registrations that brought the parcel there.
func (h *Handler) removeUnknown(ctx context.Context, p *parcel, unknown []push.Channel) {
	if len(unknown) == 0 {
		return
	}
	h.unpushed(pushUnknown, len(unknown))
	stale := make(map[push.Channel]bool, len(unknown))
	for _, c := range unknown {
		stale[c] = true
	}
	var routes []registry.ChannelRoute
	for _, r := range p.routes {
		if stale[r.Channel] {
			routes = append(routes, r)
			delete(stale, r.Channel)
		}
	}
	h.removeRoutes(ctx, p.node, routes, pushUnknown)
}

func (h *Handler) removeRoutes(ctx context.Context, node push.NodeID, routes []registry.ChannelRoute, reason string) {
	if err := h.reg.RemoveRoutes(ctx, node, routes); err != nil {
		// The next message for the channel comes by here again.
		h.log.Warn("stale routes not removed", "node", node, "routes", len(routes), "err", err)
		return
	}
	h.metrics.routes.WithLabelValues(reason).Add(float64(len(routes)))
}

// A skipList holds the nodes that missed a deadline, each for a while.
type skipList struct {
	mu    sync.Mutex // guards what follows
	until map[push.NodeID]time.Time
}

func (s *skipList) has(node push.NodeID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.until[node]
	if ok && !time.Now().Before(until) {
		delete(s.until, node)
		ok = false
	}
	return ok
}

func (s *skipList) add(node push.NodeID, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for n, until := range s.until { // as few as are slow
		if !now.Before(until) {
			delete(s.until, n)
		}
	}
	s.until[node] = now.Add(d)
}
