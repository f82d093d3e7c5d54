package node

import (
	"context"
	"math"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// tickEvery is how often every connection is looked at. One sweep costs less
// than a timer per connection, and what it judges is a matter of seconds.
const tickEvery = 250 * time.Millisecond

// tidyEvery is how often the verifier is told to tidy up.
const tidyEvery = 5 * time.Second

// provePace is how often a connection is pinged at most, beside the regular
// pings, to learn that its device received what it was sent.
const provePace = time.Second

// stalled is how late a part of a sweep must be for the process to have stood
// still, all of it: pongs may then wait to be read, so nobody is closed for a missing one.
const stalled = 4 * tickEvery

// partClients is about how many connections are looked at in one go: a sweep is
// made in so many parts, spread over its time, that nothing waits long behind
// one.
const partClients = 256

// sweepParts is the most parts that a sweep has.
const sweepParts = 64

// lookEvery is how long a connection, at most, is not looked at closely when
// nothing that was seen on it is due before: half of what a sweep costs is to
// fetch what it looks at into the processor's caches.
const lookEvery = 5 * time.Second

// tick looks at every connection until ctx ends.
func (n *Node) tick(ctx context.Context) error {
	t := time.NewTimer(tickEvery)
	defer t.Stop()
	last, tidied := time.Now(), time.Now()
	var part []*client
	for place := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		now := time.Now()
		if now.Sub(last) > stalled {
			for _, c := range n.allClients() {
				c.forgive(n.moment(now))
			}
		}
		last = now
		if now.Sub(tidied) >= tidyEvery {
			tidied = now
			n.verifier.Tidy()
		}
		var parts int
		part, place, parts = n.nextPart(part, place)
		for _, c := range part {
			c.look(now)
		}
		clear(part)
		t.Reset(tickEvery / time.Duration(parts))
	}
}

// nextPart returns the connections from place on that a sweep looks at next, in
// the memory of part, where the part after it begins, and how many parts there
// are. A connection that takes the place of one that goes may be left to the next
// sweep.
func (n *Node) nextPart(part []*client, place int) (_ []*client, next, parts int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := len(n.clients)
	parts = min(1+count/partClients, sweepParts)
	if place >= count {
		place = 0
	}
	next = min(place+(count+parts-1)/parts, count)
	return append(part[:0], n.clients[place:next]...), next, parts
}

// look looks at the connection, unless nothing can be due on it.
func (c *client) look(now time.Time) {
	at := c.node.moment(now)
	if moment(c.lookAt.Load()) > at {
		return
	}
	// Set before anything is looked at: what happens meanwhile takes it back.
	later := at.after(lookEvery)
	c.lookAt.Store(int64(later))
	busy := c.judge(now)
	due := c.tick(now)
	if busy {
		due = 0
	}
	if due < later {
		c.lookAt.CompareAndSwap(int64(later), int64(due))
	}
}

// stir has the next sweep look at the connection: something began on it that
// must end in time.
func (c *conn) stir() { c.lookAt.Store(0) }

// forgive lets the time for an outstanding pong begin now.
func (c *client) forgive(now moment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pingSent != 0 {
		c.pingSent = now
	}
}

// judge closes the connection if its peer does not do its part: to take what is
// sent, to send the rest of what it began, to answer the close frame. It reports
// whether one of them is open.
func (c *client) judge(now time.Time) (busy bool) {
	busy = c.sock.judge(c, now)
	if began := c.frameSince.Load(); began != 0 {
		busy = true
		if now.Sub(time.Unix(0, began)) > c.node.cfg.FrameTimeout {
			c.fallBehind("frame_timeout")
		}
	}
	closing, overdue := c.parting(now)
	if overdue {
		c.abort(gone)
	}
	return busy || closing
}

// tick closes the connection if its time is over and pings it if that is due. It
// returns when the next of these may be.
func (c *client) tick(now time.Time) (due moment) {
	cfg, at := &c.node.cfg, c.node.moment(now)
	c.mu.Lock()
	expires, pingSent, nextPing := c.rights.expires, c.pingSent, c.nextPing
	var opened, refused moment
	if c.passing != nil {
		opened, refused = c.passing.opened, c.passing.refusedAt
	}
	if c.device != "" && c.dirty.Load() {
		nextPing = min(nextPing, c.pingFirst.after(provePace))
	}
	c.mu.Unlock()
	left := time.Duration(math.MaxInt64)
	if expires != 0 {
		left = time.UnixMilli(expires).Sub(c.node.now()) // at most what a Duration holds
	}
	switch {
	case refused != 0:
		due = refused.after(cfg.ConnectTimeout)
		if at > due {
			c.close(push.CloseNormal) // it was told why, and did not go
		}
		return due
	case !c.connected.Load():
		due = opened.after(cfg.ConnectTimeout)
		if at > due {
			c.close(push.CloseStale)
		}
		return due
	case left < 0:
		c.close(push.CloseExpired)
		return at
	case pingSent != 0:
		due = pingSent.after(cfg.PongTimeout)
		if at > due {
			c.close(push.CloseNoPong)
		}
		due = min(due, nextPing)
	case at >= nextPing:
		c.ping(at)
		due = at // an answer may come, or none
	default:
		due = nextPing
	}
	if left < lookEvery {
		due = min(due, at.after(left))
	}
	return due
}

// ping sends a ping behind everything the client was given, and notes how far
// that is: the pong will prove that it received it.
func (c *client) ping(now moment) {
	c.dirty.Store(false) // before the positions are read: what comes later counts for the next ping
	c.mu.Lock()
	if c.touchDue(now) {
		c.touch()
	}
	c.pingSent, c.pingFirst = now, now
	c.nextPing = now.after(c.node.cfg.PingInterval)
	if list := c.positions(); list != nil || c.passing != nil {
		c.pass().noted = list
	}
	c.mu.Unlock()
	if c.framePing {
		c.sendFramePing()
		return
	}
	c.send(c.codec.ping)
}

// positions returns how far the client was given each channel, where that was
// not proven before; nothing for a client without a device. c.mu is held.
func (c *client) positions() []noted {
	if c.device == "" {
		return nil
	}
	var list []noted
	for i := range c.subs {
		f := &c.subs[i]
		if !f.told {
			continue // what it recovered is not on its way yet
		}
		if pos := f.sub.Pos(); pos > f.proven {
			list = append(list, noted{f.sub, store.Cursor{
				User: c.user, Device: c.device, Channel: f.sub.Channel().Name(), Received: pos, UpdatedAt: c.node.now()}})
		}
	}
	return list
}

// pong takes the answer to a ping. It reports false if none was outstanding.
func (c *client) pong() bool {
	c.mu.Lock()
	if c.pingSent == 0 {
		c.mu.Unlock()
		return false
	}
	c.pingSent = 0
	var proven []noted
	if c.passing != nil {
		proven, c.passing.noted = c.passing.noted, nil
		c.passed()
	}
	for _, p := range proven {
		// Whoever has left the channel meanwhile has no cursor in it any more.
		if f := c.following(p.cursor.Channel); f != nil && f.sub == p.sub && c.node.cursors.advance(p.cursor) {
			f.proven = max(f.proven, p.cursor.Received)
		}
	}
	c.mu.Unlock()
	return true
}
