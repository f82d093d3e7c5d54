package node

import (
	"context"
	"time"

	"github.com/centrifugal/protocol"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A join is one subscription on its way to being live.
type join struct {
	// Set by the caller.
	server   bool
	position *position     // where the client says it is
	cursor   *store.Cursor // where its device was, nil if it was never seen

	// Set by client.join.
	sub    *hub.Subscription
	result *protocol.SubscribeResult
	start  push.Offset // the client has everything up to here
	more   bool        // the reply holds only the first page
}

// A position is how far a client says it has come.
type position struct {
	offset push.Offset
	epoch  string // empty matches any
}

// wanted returns the position that req asks to recover from, nil if none.
func wanted(req *protocol.SubscribeRequest) *position {
	if req == nil || !req.Recover {
		return nil
	}
	return &position{push.Offset(req.Offset), req.Epoch}
}

// join subscribes the client to channel name, makes sure that the node has a
// route for it, and reads the first page of what the client lacks into
// j.result. The subscription is not live yet.
func (c *client) join(ctx context.Context, name push.Channel, j *join) error {
	n := c.node
	j.sub = n.hub.Subscribe(name, c)
	if !c.follow(name, &following{sub: j.sub, server: j.server}) {
		n.unsubscribe(j.sub)
		return errAlreadySubscribed
	}
	j.result = &protocol.SubscribeResult{Recoverable: true, Positioned: true, Epoch: n.epoch, WasRecovering: j.position != nil}
	from, known := c.startOf(name, j)
	if !known {
		return c.joinNow(ctx, j)
	}
	j.sub.Start(from)
	j.sub.Reading()
	p, err := n.history.register(ctx, j.sub.Channel(), from)
	if err != nil {
		return err
	}
	if from >= p.term.Ceiling && from > lastOffset(p.Entries) {
		return c.joinNow(ctx, j) // no such offset was ever given to anyone
	}
	p.Page = j.sub.Merge(from, p.Page)
	j.start, j.more = from, p.More
	j.result.Offset, j.result.Recovered = uint64(from), true
	j.result.WasRecovering = j.position != nil || j.cursor != nil || len(p.Entries) > 0
	for _, e := range p.Entries {
		j.result.Publications = append(j.result.Publications, hub.Wire(e))
	}
	n.metrics.recovered.Add(float64(len(p.Entries)))
	c.omitAll(name, p.Omitted)
	j.sub.Took(from, p.Page)
	return nil
}

// startOf says where the client starts: at the position it names, else where
// its device was, else, in its personal channel, at the oldest there is. known
// is false where it starts with what comes from now on.
func (c *client) startOf(name push.Channel, j *join) (from push.Offset, known bool) {
	_, personal := name.User()
	switch {
	case j.position != nil && (j.position.epoch == "" || j.position.epoch == c.node.epoch):
		return j.position.offset, true
	case j.cursor != nil:
		return j.cursor.Received, true
	case personal && c.device != "":
		return 0, true
	}
	return 0, false
}

// joinNow starts the subscription at what the channel holds last.
func (c *client) joinNow(ctx context.Context, j *join) error {
	j.sub.Reading()
	last, err := c.node.history.registerLast(ctx, j.sub.Channel())
	if err != nil {
		return err
	}
	j.sub.Start(last)
	j.sub.Took(last, hub.Page{End: last})
	j.start = last
	j.result.Offset, j.result.Recovered = uint64(last), false
	return nil
}

// release makes the subscription live, after its reply was queued. Where pages
// remain they are read one by one, each when the one before has been written.
func (c *client) release(j *join) {
	c.mu.Lock()
	if f := c.subs[j.sub.Channel().Name()]; f != nil && f.sub == j.sub {
		f.told = true
	}
	c.mu.Unlock()
	if len(j.result.Publications) > 0 {
		c.dirty.Store(true)
	}
	if !j.more && c.goLive(j.sub) {
		return
	}
	c.spawn(func() { c.recoverRest(j.sub) })
}

// goLive reports whether sub is live now, or has ended.
func (c *client) goLive(sub *hub.Subscription) bool {
	switch sub.GoLive() {
	case hub.ReadOn:
		return false
	case hub.LiveGap:
		c.node.catchUp(sub.Channel(), "start")
	}
	return true
}

// recoverRest gives the client what remains for it, page by page.
func (c *client) recoverRest(sub *hub.Subscription) {
	ctx := c.node.background()
	for {
		select {
		case <-c.idle():
		case <-ctx.Done():
			return
		}
		if c.isClosing() {
			return
		}
		after := sub.Reading()
		p, err := c.node.history.read(ctx, sub.Channel().Name(), after)
		if err != nil {
			c.node.log.Warn("recovery broke off", "channel_len", len(sub.Channel().Name()), "err", err)
			c.close(push.CloseInsufficient) // the client comes back with its position
			return
		}
		p.Page = sub.Merge(after, p.Page)
		for _, e := range p.Entries {
			c.Publish(&hub.Publication{Entry: e})
		}
		c.node.metrics.recovered.Add(float64(len(p.Entries)))
		c.omitAll(sub.Channel().Name(), p.Omitted)
		sub.Took(after, p.Page)
		if !p.More && c.goLive(sub) {
			return
		}
		if p.Unsettled {
			select {
			case <-time.After(unsettledPause):
			case <-ctx.Done():
			}
		}
	}
}

// unsettledPause is how long a recovery waits for what is on its way into the
// inbox.
const unsettledPause = 250 * time.Millisecond

// leave ends the client's subscription to name, where there is one.
func (c *client) leave(name push.Channel) {
	if f := c.unfollow(name); f != nil {
		c.node.unsubscribe(f.sub)
	}
}
