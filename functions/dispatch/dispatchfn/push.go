package dispatchfn

import (
	"context"
	"errors"
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

// push brings parcels to their nodes, all side by side. It returns when each has
// answered or missed its deadline.
func (b *batch) push(ctx context.Context, parcels []*parcel) {
	if len(parcels) == 0 {
		return
	}
	if len(parcels) == 1 {
		b.deliver(ctx, parcels[0])
		return
	}
	var g errgroup.Group
	g.SetLimit(b.h.cfg.Fanout)
	for _, p := range parcels {
		g.Go(b.h.guard(func() error {
			b.deliver(ctx, p)
			return nil
		}))
	}
	_ = g.Wait() // one that panics was missed, as deliver notes
}

// fewNodes is how many nodes are found faster by looking at each.
const fewNodes = 8

// parcels sorts the places of todo by node, in their order.
func (b *batch) parcels(todo []int) []*parcel {
	var byNode map[push.NodeID]*parcel // where there are many
	var all []*parcel
	of := func(node push.NodeID) *parcel {
		if byNode != nil {
			return byNode[node]
		}
		for _, d := range all {
			if d.node == node {
				return d
			}
		}
		return nil
	}
	for _, i := range todo {
		p := &b.places[i]
		if p.at.Err != nil {
			continue
		}
		for _, r := range p.at.Routes {
			d := of(r.Node)
			if d == nil {
				d = &parcel{node: r.Node}
				all = append(all, d)
				switch {
				case byNode != nil:
					byNode[r.Node] = d
				case len(all) == fewNodes:
					byNode = make(map[push.NodeID]*parcel)
					for _, have := range all {
						byNode[have.node] = have
					}
				}
			}
			d.places = append(d.places, i)
			d.routes = append(d.routes, registry.ChannelRoute{Channel: p.channel, Registration: r.Registration})
		}
	}
	return all
}

// deliver brings one parcel to its node, and notes what that missed, even if it
// panics.
func (b *batch) deliver(ctx context.Context, p *parcel) {
	defer b.delivered(p)
	whole := false
	defer func() {
		if !whole {
			b.h.missed(p, pushPanic, 0)
		}
	}()
	b.bring(ctx, p)
	whole = true
}

// bring brings one parcel to its node, if that is alive, and removes routes that
// the node, or its successor at the address, says are stale. A lease that is gone
// and a failure on the way say nothing about routes.
func (b *batch) bring(ctx context.Context, p *parcel) {
	h := b.h
	began := time.Now()
	owed, skip := h.misses.of(p.node, began)
	if skip {
		h.missed(p, pushSkipped, 0)
		return
	}
	live, err := h.reg.Nodes(ctx, []push.NodeID{p.node})
	if err != nil {
		h.missed(p, pushNoAnswer, 0)
		return
	}
	if _, alive := live[p.node]; !alive {
		h.unpushed(pushNoLease, len(p.places))
		return
	}
	req := b.request(p)
	req.Beat = owed
	answer, err := h.nodes.Deliver(h.pushes.under(ctx, time.Now()), p.node, req)
	result := resultOf(err)
	h.metrics.request(result)
	switch result {
	case pushOK:
		h.reached.note(p.node, began)
		if owed {
			h.misses.forget(p.node, began)
		}
		h.metrics.entries.Add(float64(len(p.places) - len(answer.Unknown)))
		h.removeUnknown(ctx, p, answer.Unknown)
	case pushOtherNode:
		h.unpushed(result, len(p.places))
		h.removeRoutes(ctx, p.node, p.routes, pushOtherNode)
	case pushTimeout:
		skipTime := h.cfg.SkipTime
		if ctx.Err() != nil { // the caller left; it was not the node that took too long
			skipTime = 0
		}
		h.missed(p, result, skipTime)
	default:
		h.missed(p, result, 0)
	}
	if err != nil {
		h.log.Debug("push failed", "node", p.node, "entries", len(p.places), "err", err)
	}
}

// request returns what the node of p gets: each message once, in the order of
// their places, which is that of the messages, and without its recipients.
func (b *batch) request(p *parcel) push.DeliverRequest {
	req := push.DeliverRequest{
		Entries: make([]push.DeliverEntry, len(p.places)), Messages: make([]push.Message, 0, min(len(p.places), len(b.messages))),
	}
	last := -1
	for n, i := range p.places {
		pl := &b.places[i]
		if pl.message != last {
			last = pl.message
			req.Messages = append(req.Messages, *b.messages[last])
			req.Messages[len(req.Messages)-1].To = push.Recipients{}
		}
		req.Entries[n] = push.DeliverEntry{Channel: pl.channel, Offset: pl.at.Offset, Prev: pl.at.Prev, Message: len(req.Messages) - 1}
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

// missed notes that the node did not get what is for it, so that it is told to
// look for itself, and leaves it out for skipTime.
func (h *Handler) missed(p *parcel, reason string, skipTime time.Duration) {
	h.unpushed(reason, len(p.places))
	h.misses.add(p.node, time.Now(), skipTime)
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
