package hub

import (
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A Subscription is one connection's place in one channel. Its life:
//
//	sub := hub.Subscribe(name, conn)
//	sub.StartAtLast(), sub.GoLive(); or where that does not do:
//	channel registered; sub.Start(position)
//	sub.Reading(), read the first page, put it into the reply, sub.Took(page)
//	for each further page: sub.Reading(), read, sub.Give(page)
//	sub.GoLive()
//	hub.Unsubscribe(sub)
//
// Start, StartAtLast, Reading, Took and GoLive are called by one goroutine at a time.
type Subscription struct {
	channel *Channel
	conn    Connection

	// Guarded by channel.mu.
	index int32 // in channel.subs
	ended bool
	live  bool
	pos   push.Offset // the client was given everything up to here
	start *start      // nil once it is live
}

// start is what is known of a subscription until it is live.
type start struct {
	from push.Offset // where it started
	mark readMark    // where the present read began
}

// Channel returns the channel that sub belongs to.
func (sub *Subscription) Channel() *Channel { return sub.channel }

// Pos returns the offset that the client was last given.
func (sub *Subscription) Pos() push.Offset {
	sub.channel.mu.Lock()
	defer sub.channel.mu.Unlock()
	return sub.pos
}

// Start sets the position that the client has everything up to.
func (sub *Subscription) Start(pos push.Offset) {
	sub.channel.mu.Lock()
	defer sub.channel.mu.Unlock()
	sub.pos = pos
	if sub.start != nil {
		sub.start.from = pos
	}
}

// StartAtLast starts sub where the channel is, with what comes from now on, and
// returns that offset: nothing needs to be read, and GoLive may follow. ok is
// false before the first subscription of the channel went live.
func (sub *Subscription) StartAtLast() (last push.Offset, ok bool) {
	ch := sub.channel
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if !ch.started || sub.start == nil {
		return 0, false
	}
	sub.pos = ch.last
	// In one step with last: what the hold forgets between the two would be taken
	// for read.
	*sub.start = start{from: ch.last, mark: ch.mark()}
	return ch.last, true
}

// Reading notes that a read for sub begins and returns the offset to read from.
func (sub *Subscription) Reading() (after push.Offset) {
	ch := sub.channel
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if sub.start != nil {
		sub.start.mark = ch.mark()
	}
	return sub.pos
}

// Merge returns p, which a read from after returned, with what the channel
// holds in that range and the read lacks: as an omission where the client is not
// to be given it.
func (sub *Subscription) Merge(after push.Offset, p Page) Page {
	ch := sub.channel
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.held().merge(after, p, ch.hub.cfg.Now())
}

// Took notes that the client was given p, which a read from after returned.
// What other live subscriptions lack of it they are given now.
func (sub *Subscription) Took(after push.Offset, p Page) {
	ch := sub.channel
	ch.mu.Lock()
	defer ch.mu.Unlock()
	sub.took(after, p)
}

func (sub *Subscription) took(after push.Offset, p Page) {
	sub.pos = max(sub.pos, p.End)
	sub.channel.apply(after, p)
}

// Give gives the client p, which a read from after returned, as publications,
// with what the channel holds in its range and the read lacks; then as Took. It
// reports how many the client was given, and false if the subscription has
// ended: then nothing is given.
func (sub *Subscription) Give(after push.Offset, p Page) (given int, ok bool) {
	ch := sub.channel
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if sub.ended {
		return 0, false
	}
	p = ch.held().merge(after, p, ch.hub.cfg.Now())
	for _, o := range p.Omitted {
		sub.conn.Omit(ch.name, o)
	}
	for _, e := range p.Entries {
		sub.give(&Publication{Entry: e})
	}
	sub.took(after, p)
	return len(p.Entries), true
}

// Ended reports whether the subscription has ended.
func (sub *Subscription) Ended() bool {
	sub.channel.mu.Lock()
	defer sub.channel.mu.Unlock()
	return sub.ended
}

// A State is what [Subscription.GoLive] came to.
type State int

// The states.
const (
	Live     State = iota // from now on the channel's entries are given to it
	ReadOn                // not live: more arrived than could be held; read another page
	LiveGap               // live, and the caller owns a catch-up of the channel as after [Gap]
	LiveGone              // the subscription has ended
)

// GoLive makes sub live, after a read that returned the last page. First it is
// given what arrived during the read.
func (sub *Subscription) GoLive() State {
	ch := sub.channel
	ch.mu.Lock()
	defer ch.mu.Unlock()
	switch {
	case sub.ended:
		return LiveGone
	case sub.live:
		return Live
	case !ch.started:
		return ch.begin(sub)
	case sub.pos < ch.heldFrom() && ch.heldFrom() > sub.start.mark.heldFrom:
		return ReadOn
	}
	for _, e := range ch.held().entries {
		switch {
		case e.Offset <= sub.pos || e.Offset > ch.last:
		case e.Message.Expired(ch.hub.cfg.Now()):
			sub.pos = e.Offset // nor is it given it by a pass
			sub.conn.Omit(ch.name, store.Omission{First: e.Offset, Last: e.Offset, ExpiresAt: e.Message.ExpiresAt})
		default:
			sub.give(&Publication{Entry: e})
		}
	}
	ch.admit(sub)
	return Live
}

// begin makes sub the channel's first live subscription: what it has is what the
// channel has.
func (ch *Channel) begin(sub *Subscription) State {
	r, mark := ch.reads, sub.start.mark
	if f := r.hold.forgotten; f > sub.pos && f > mark.forgotten {
		return ReadOn
	}
	ch.started = true
	ch.last = sub.pos
	r.from = sub.start.from
	if r.hold.forgotten <= ch.last {
		r.from = max(r.from, r.hold.forgotten)
	}
	sub.live = true // so that drain gives it what was held
	whole := ch.drain(mark) && !ch.readAgain()
	ch.admit(sub)
	if whole || ch.catching {
		return Live
	}
	ch.beginCatch()
	return LiveGap
}

func (ch *Channel) admit(sub *Subscription) {
	sub.live, sub.start = true, nil
	ch.reads.pending--
	ch.releaseHold()
}

// give passes p to the client unless it was given it, or something later,
// before. The channel's mu is held.
func (sub *Subscription) give(p *Publication) {
	if p.Offset <= sub.pos {
		return
	}
	if sub.pos >= p.first() { // of several, it has some
		for _, e := range p.before {
			sub.give(&Publication{Entry: e})
		}
		p = &Publication{Entry: p.Entry}
	}
	sub.pos = p.Offset
	sub.conn.Publish(p)
}
