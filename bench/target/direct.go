package target

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"pushcluster/bench/swarm"
	"pushcluster/shared/nodeclient"
	"pushcluster/shared/push"
)

// A deliverAPI gives entries to one node as Dispatch does, without Dispatch: it
// shows what the node can do by itself. The offsets are its own, so nothing may
// be published through Dispatch at the same time.
type deliverAPI struct {
	client *nodeclient.Client
	node   push.NodeID
	ids    ids
	offset atomic.Uint64
}

func (p *deliverAPI) One(ctx context.Context, at time.Time, user int) error {
	return p.deliver(ctx, at, []int{user})
}

func (p *deliverAPI) Many(ctx context.Context, at time.Time, users []int) error {
	return p.deliver(ctx, at, users)
}

func (p *deliverAPI) All(context.Context, time.Time) error { return ErrNotOffered }

func (p *deliverAPI) deliver(ctx context.Context, at time.Time, users []int) error {
	payload := swarm.AppendPayload(nil, at)
	req := push.DeliverRequest{Messages: make([]push.Message, len(users)), Entries: make([]push.DeliverEntry, len(users))}
	for i, u := range users {
		req.Messages[i] = push.Message{ID: push.MessageID(p.ids.append(nil)), Data: payload, CreatedAt: at, ExpiresAt: at.Add(messageLife)}
		req.Entries[i] = push.DeliverEntry{
			Channel: push.Channel(fmt.Append([]byte{'#'}, u)), Offset: p.nextOffset(at),
			// The first offset there can be: whatever a connection has, nothing is
			// missing before this.
			Prev: 1, Message: i,
		}
	}
	answer, err := p.client.Deliver(ctx, p.node, req)
	if err != nil {
		return err
	}
	if len(answer.Unknown) > 0 {
		return fmt.Errorf("the node does not know %d of %d channels", len(answer.Unknown), len(users))
	}
	return nil
}

// nextOffset returns an offset that is larger than all before, and of about now.
func (p *deliverAPI) nextOffset(at time.Time) push.Offset {
	floor := uint64(push.OffsetAt(at))
	for {
		last := p.offset.Load()
		next := max(last+1, floor)
		if p.offset.CompareAndSwap(last, next) {
			return push.Offset(next)
		}
	}
}
