package node

import (
	"context"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// tickEvery is how often every connection is looked at. One sweep costs less
// than a timer per connection, and what it judges is a matter of seconds.
const tickEvery = 250 * time.Millisecond

// tidyEvery is after how many sweeps the verifier is told to tidy up.
const tidyEvery = 20

// provePace is how often a connection is pinged at most, beside the regular
// pings, to learn that its device received what it was sent.
const provePace = time.Second

// stalled is how late a sweep must be for the process to have stood still, all
// of it: pongs may then wait to be read, so nobody is closed for a missing one.
const stalled = 4 * tickEvery

// tick looks at every connection until ctx ends.
func (n *Node) tick(ctx context.Context) error {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	last := time.Now()
	for sweeps := 1; ; sweeps++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		if sweeps%tidyEvery == 0 {
			n.verifier.Tidy()
		}
		now := time.Now()
		late := now.Sub(last) > stalled
		last = now
		for _, c := range n.allClients() {
			if late {
				c.forgive(n.moment(now))
			} else {
				c.judge(now)
			}
			c.tick(now)
		}
	}
}

// forgive lets the time for an outstanding pong begin now.
func (c *client) forgive(now moment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pingSent != 0 {
		c.pingSent = now
	}
}

// judge closes the connection if its peer does not do its part: to take what is
// sent, to send the rest of what it began, to answer the close frame.
func (c *client) judge(now time.Time) {
	c.sock.judge(c, now)
	if began := c.frameSince.Load(); began != 0 && now.Sub(time.Unix(0, began)) > c.node.cfg.FrameTimeout {
		c.fallBehind("frame_timeout")
	}
	if c.overdue(now) {
		c.abort(gone)
	}
}

// tick closes the connection if its time is over and pings it if that is due.
func (c *client) tick(now time.Time) {
	cfg, at := &c.node.cfg, c.node.moment(now)
	c.mu.Lock()
	refused, expires, pingSent := c.refusedAt, c.rights.expires, c.pingSent
	pingDue := at >= c.nextPing || c.device != "" && c.dirty.Load() && at.since(c.pingFirst) >= provePace
	c.mu.Unlock()
	switch {
	case refused != 0:
		if at.since(refused) > cfg.ConnectTimeout {
			c.close(push.CloseNormal) // it was told why, and did not go
		}
	case !c.connected.Load():
		if at.since(c.opened) > cfg.ConnectTimeout {
			c.close(push.CloseStale)
		}
	case expires != 0 && c.node.now().UnixNano() > expires:
		c.close(push.CloseExpired)
	case pingSent != 0:
		if at.since(pingSent) > cfg.PongTimeout {
			c.close(push.CloseNoPong)
		}
	case pingDue:
		c.ping(at)
	}
}

// ping sends a ping behind everything the client was given, and notes how far
// that is: the pong will prove that it received it.
func (c *client) ping(now moment) {
	c.dirty.Store(false) // before the positions are read: what comes later counts for the next ping
	c.mu.Lock()
	c.pingSent, c.pingFirst = now, now
	c.nextPing = now.after(c.node.cfg.PingInterval)
	c.noted = c.positions()
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
	proven := c.noted
	c.noted = nil
	for _, p := range proven {
		// Whoever has left the channel meanwhile has no cursor in it any more.
		if f := c.following(p.cursor.Channel); f != nil && f.sub == p.sub {
			f.proven = max(f.proven, p.cursor.Received)
			c.node.cursors.advance(p.cursor)
		}
	}
	c.mu.Unlock()
	return true
}
