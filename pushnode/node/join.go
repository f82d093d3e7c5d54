package node

import (
	"context"
	"slices"
	"sync/atomic"
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
	maxBytes int           // of data that the reply may hold
	reply    *atomic.Int64 // bytes in the reply of this join and others; nil: it has one of its own

	// Set by client.join.
	name       push.Channel
	sub        *hub.Subscription
	start      push.Offset  // the client has everything up to here
	missed     []push.Entry // the first page of what it has not
	more       bool         // there are other pages
	recovering bool         // the client may have missed something
	recovered  bool         // what it missed is missed and the pages after that
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
// route for it, and reads the first page of what the client lacks. The subscription is not live yet.
func (c *client) join(ctx context.Context, name push.Channel, j *join) error {
	if err := c.enter(name, j); err != nil || c.joinLive(j) {
		return err
	}
	return c.joinByReading(ctx, name, j)
}

// enter subscribes the client to channel name.
func (c *client) enter(name push.Channel, j *join) error {
	n := c.node
	j.sub = n.hub.Subscribe(name, c)
	j.name = j.sub.Channel().Name()
	if !c.follow(following{sub: j.sub, server: j.server}) {
		n.unsubscribe(j.sub)
		return errAlreadySubscribed
	}
	j.recovering = j.position != nil
	return nil
}

// joinLive starts the subscription, and reports true, where it begins with what
// comes from now on and the channel is live here: its route is written, and what
// the channel was last given is where it is. Nothing needs to be read.
func (c *client) joinLive(j *join) bool {
	if _, known := c.startOf(j.sub.Channel().Name(), j); known {
		return false
	}
	last, live := j.sub.StartAtLast()
	j.start = last
	return live
}

// joinByReading makes sure of the route and reads, where joinLive does not do.
func (c *client) joinByReading(ctx context.Context, name push.Channel, j *join) error {
	n := c.node
	for {
		from, known := c.startOf(name, j)
		if !known {
			return c.joinNow(ctx, j)
		}
		j.sub.Start(from)
		j.sub.Reading()
		p, err := n.history.register(ctx, j.sub.Channel(), from, j.maxBytes)
		if err != nil {
			return err
		}
		believed := true
		if j.position != nil {
			if believed, err = n.history.believable(ctx, name, from, p); err != nil {
				return err
			}
		}
		if believed {
			c.joinFrom(j, from, p)
			return nil
		}
		n.metrics.dropped.WithLabelValues("position").Inc()
		j.position = nil // as if it had named none
	}
}

// joinFrom puts the first page of what follows from into the reply.
func (c *client) joinFrom(j *join, from push.Offset, p page) {
	p.Page = j.sub.Merge(from, p.Page)
	if !j.fits(p.Entries) {
		p.Page = hub.Page{End: from, More: true}
	}
	j.start, j.missed, j.more, j.recovered = from, p.Entries, p.More, true
	j.recovering = j.recovering || j.cursor != nil || len(p.Entries) > 0 || p.More
	c.node.metrics.recovered.Add(float64(len(p.Entries)))
	c.omitAll(j.sub.Channel().Name(), p.Omitted)
	j.sub.Took(from, p.Page)
}

// replyBytes is about how large a reply to connect may become. Not every client
// takes a message over 1 MiB: the SDK for Python did not up to 0.5.
const replyBytes = 2 * pageBytes

// fits reports whether entries have room in the reply, and takes it. A page holds
// one entry at least, however small its share of the reply: so large messages in
// many channels would make it larger than some clients take. What has no room
// follows the reply, from its beginning.
func (j *join) fits(entries []push.Entry) bool {
	if j.reply == nil || len(entries) == 0 {
		return true
	}
	var size int64
	for i := range entries {
		size += int64(hub.EncodedSize(&entries[i]))
	}
	if with := j.reply.Add(size); with <= replyBytes || with == size {
		return true
	}
	j.reply.Add(-size)
	return false
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
	j.beginAt(last)
	return nil
}

// beginAt starts the subscription behind last.
func (j *join) beginAt(last push.Offset) {
	j.sub.Start(last)
	j.sub.Took(last, hub.Page{End: last})
	j.start = last
}

// release makes the subscription live, after its reply was queued. Where pages
// remain they are read one by one, each when the one before has been written.
func (c *client) release(j *join) {
	c.mu.Lock()
	if f := c.following(j.name); f != nil && f.sub == j.sub {
		f.told = true
	}
	c.mu.Unlock()
	if len(j.missed) > 0 {
		c.soil()
	}
	if !j.more && c.goLive(j.sub) {
		return
	}
	sub := j.sub // not j, which is used again
	c.node.work(func() { c.recoverRest(sub) })
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

// recoverRest gives the client what remains for it, page by page. One recovery
// of a connection reads at a time, and the next page when the last has been
// written: so no number of backlogs overruns the queue.
func (c *client) recoverRest(sub *hub.Subscription) {
	for {
		pause, goOn := c.recoverPage(sub)
		if !goOn {
			return
		}
		if pause {
			select {
			case <-time.After(unsettledPause):
			case <-c.node.background().Done():
			}
		}
	}
}

// recoverPage gives the client the next page. goOn is false when there is no
// more to do; pause is true if the next page should wait a little.
func (c *client) recoverPage(sub *hub.Subscription) (pause, goOn bool) {
	ctx := c.node.background()
	c.mu.Lock()
	if c.pass().recovery == nil {
		c.passing.recovery = make(chan struct{}, 1)
	}
	recovery := c.passing.recovery
	c.mu.Unlock()
	select {
	case recovery <- struct{}{}:
		defer func() { <-recovery }()
	case <-ctx.Done():
		return false, false
	}
	select {
	case <-c.idle():
	case <-ctx.Done():
		return false, false
	}
	if c.isClosing() || sub.Ended() {
		return false, false
	}
	after := sub.Reading()
	p, err := c.node.history.read(ctx, sub.Channel().Name(), after)
	if err != nil {
		c.node.log.Warn("recovery broke off", "client", c.id.String(), "err", err)
		c.close(push.CloseInsufficient) // the client comes back with its position
		return false, false
	}
	given, ok := sub.Give(after, p.Page)
	if !ok {
		return false, false
	}
	c.node.metrics.recovered.Add(float64(given))
	if !p.More && c.goLive(sub) {
		return false, false
	}
	return p.Unsettled, true
}

// unsettledPause is how long a recovery waits for what is on its way into the
// inbox.
const unsettledPause = 250 * time.Millisecond

// leave ends the client's subscription to name and reports whether there was one.
func (c *client) leave(name push.Channel) bool {
	sub := c.unfollow(name)
	if sub != nil {
		c.node.unsubscribe(sub)
	}
	return sub != nil
}

// undo ends a join that failed: it, and not another of the same channel.
func (c *client) undo(j *join) {
	c.mu.Lock()
	c.subs = slices.DeleteFunc(c.subs, func(f following) bool { return f.sub == j.sub })
	c.mu.Unlock()
	c.node.unsubscribe(j.sub)
}
