package node

import (
	"context"
	"time"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
)

// catchUp runs a catch-up that the caller owns, in the background. The channel
// it returns gets one value: the first error it meets, or nil at its end.
func (n *Node) catchUp(ch *hub.Channel, reason string) <-chan error {
	n.metrics.catchUps.WithLabelValues(reason).Inc()
	first := make(chan error, 1)
	n.work(func() { n.runCatchUp(ch, first) })
	return first
}

// pagePause lies between two pages of a catch-up, which go to all connections of
// a channel whatever they have waiting: 256 KiB of it are 5 MiB/s.
const pagePause = 50 * time.Millisecond

// runCatchUp reads what ch lacks until it lacks nothing, however long Redis or
// the store are away; it gives up only with the node. (While Redis alone is
// away, the beat gives the connections what the inbox has.)
func (n *Node) runCatchUp(ch *hub.Channel, first chan<- error) {
	tell := func(err error) {
		select {
		case first <- err:
		default: // it was told
		}
	}
	pause := pagePause
	after, _ := ch.Last()
	for {
		p, err := n.readForCatchUp(ch, after)
		wait := pagePause
		if err == nil {
			var done bool
			if after, done = ch.CaughtUp(after, p.Page); done {
				tell(nil)
				return
			}
		} else {
			tell(err)
			n.log.Warn("catch-up waits", "err", err, "pause", pause)
		}
		if err != nil || p.Unsettled {
			wait = pause
			pause = min(2*pause, 2*time.Second)
		}
		select {
		case <-n.bg.Done():
			tell(n.bg.Err())
			return
		case <-time.After(wait):
		}
	}
}

// readForCatchUp reads a page, a bounded number of catch-ups at a time.
func (n *Node) readForCatchUp(ch *hub.Channel, after push.Offset) (page, error) {
	select {
	case n.catchReads <- struct{}{}:
		defer func() { <-n.catchReads }()
	case <-n.bg.Done():
		return page{}, n.bg.Err()
	}
	ctx, cancel := context.WithTimeout(n.bg, catchReadTime)
	defer cancel()
	return n.history.read(ctx, ch.Name(), after)
}

// catchReadTime bounds one read of a catch-up.
const catchReadTime = 10 * time.Second
