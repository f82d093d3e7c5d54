package hub

import (
	"slices"
	"sync"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A Channel is one channel with local subscriptions.
type Channel struct {
	// Fixed when the channel is made.
	name         push.Channel
	hub          *Hub
	registration int64

	mu       sync.Mutex // guards what follows; never held over a call that blocks
	gone     bool       // it had its last subscription; the hub no longer knows it
	started  bool       // last is known: a first subscription went live
	catching bool       // a catch-up is under way; whoever runs it ends it
	written  bool       // its route is
	writing  bool       // that is under way
	subs     []*Subscription
	last     push.Offset   // every live subscription was given all up to here, or is to be by a pass
	reads    *reads        // nil while nobody reads: there are many channels, and most are quiet
	pass     *pass         // nil while nobody passes over it
	ended    chan struct{} // closed when the write of the route under way has ended; nil: nobody waits for it

	// Most channels have one subscription ever. It lies here, with the memory of
	// subs: one piece of 160 bytes, a size that next to no garbage has, where
	// three would each be among garbage and keep it from being given back.
	first Subscription
	one   [1]*Subscription
}

// reads is what a channel knows while something of it is read.
type reads struct {
	pending int      // subscriptions that are not live
	catch   readMark // where the catch-up's present read began
	again   bool     // somebody wanted a catch-up after a read began: there is to be another
	hold    hold
	from    push.Offset // up to here entries that the channel passed are not in the hold; never beyond last
	omitted push.Offset // the largest offset that a read left out which the channel had not passed
}

// A readMark is what the hold looked like when a read began. Whatever had
// arrived by then was appended before, so the read covers it.
type readMark struct {
	sure      push.Offset // the largest offset that had arrived
	forgotten push.Offset
	heldFrom  push.Offset
}

// Name returns the channel's name.
func (ch *Channel) Name() push.Channel { return ch.name }

// Registration returns the number that the channel's route is written under.
// It is larger than that of every earlier channel of the same name here.
func (ch *Channel) Registration() int64 { return ch.registration }

// Last returns the offset up to which all live subscriptions were given
// everything; ok is false before the first subscription went live.
func (ch *Channel) Last() (last push.Offset, ok bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.last, ch.started
}

func (ch *Channel) add(conn Connection) *Subscription {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	sub := &ch.first
	if sub.channel != nil {
		sub = new(Subscription)
	} else {
		ch.subs = ch.one[:0]
	}
	*sub = Subscription{channel: ch, conn: conn, index: int32(len(ch.subs)), start: &start{}}
	ch.subs = append(ch.subs, sub)
	r := ch.reading()
	if r.pending == 0 {
		r.from = ch.last
	}
	r.pending++
	return sub
}

// reading returns what the channel knows of its reads, to add to it.
func (ch *Channel) reading() *reads {
	if ch.reads == nil {
		ch.reads = &reads{}
	}
	return ch.reads
}

// pending returns how many subscriptions are not live.
func (ch *Channel) pending() int {
	if ch.reads == nil {
		return 0
	}
	return ch.reads.pending
}

// held returns what is held, to look at.
func (ch *Channel) held() *hold {
	if ch.reads == nil {
		return &hold{}
	}
	return &ch.reads.hold
}

// remove takes sub out and reports whether it was the last.
func (ch *Channel) remove(sub *Subscription) (last bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if sub.ended {
		return false
	}
	sub.ended, sub.conn = true, nil // a channel's first one lasts as long as the channel
	end := int32(len(ch.subs) - 1)
	ch.subs[sub.index] = ch.subs[end]
	ch.subs[sub.index].index = sub.index
	ch.subs[end] = nil
	ch.subs = ch.subs[:end]
	if !sub.live {
		ch.reads.pending--
		ch.releaseHold()
	}
	ch.gone = end == 0
	return ch.gone
}

func (ch *Channel) deliver(e push.Entry) Outcome {
	e.Channel = ch.name // the hub's own, which lasts
	ch.lockWithRoom()
	defer ch.mu.Unlock()
	switch {
	case ch.gone:
		return Unknown
	case !ch.started:
		ch.keep(e)
		return Held
	case e.Offset <= ch.last:
		return Repeat
	case ch.catching:
		ch.keep(e)
		return Held
	case !ch.follows(e):
		ch.keep(e)
		ch.beginCatch()
		return Gap
	}
	ch.advance(e)
	return Taken
}

// follows reports whether nothing can lie between last and e.
func (ch *Channel) follows(e push.Entry) bool { return e.Prev != 0 && e.Prev <= ch.last }

// advance gives e, the channel's next entry, to the live subscriptions, or has it
// wait for a pass over them.
func (ch *Channel) advance(e push.Entry) {
	ch.last = e.Offset
	if ch.pending() > 0 {
		ch.keep(e)
	}
	if e.Message.Expired(ch.hub.cfg.Now()) {
		ch.omit(store.Omission{First: e.Offset, Last: e.Offset, ExpiresAt: e.Message.ExpiresAt})
		return
	}
	if ch.wide() {
		ch.wait(e)
		return
	}
	p := ch.hub.brief(e)
	for _, sub := range ch.subs {
		if sub.live {
			sub.give(p)
		}
	}
	ch.hub.dispose(p)
}

// omit tells the live subscriptions what they are not given.
func (ch *Channel) omit(o store.Omission) {
	for _, sub := range ch.subs {
		if sub.live && sub.pos < o.Last {
			sub.conn.Omit(ch.name, o)
		}
	}
}

// keep puts e into the hold. Where the hold is full its oldest entries are
// forgotten: they are read again.
func (ch *Channel) keep(e push.Entry) {
	r := ch.reading()
	for _, old := range r.hold.put(e, ch.hub.cfg.HoldEntries, ch.hub.cfg.HoldBytes) {
		if old.Offset <= ch.last {
			r.from = max(r.from, old.Offset)
		}
	}
}

// leaveOut notes what a read left out, for the subscriptions that are not live and
// read less far: that it is not in the hold has them read on, once the channel has
// passed it, and then they are told of it.
func (ch *Channel) leaveOut(omitted []store.Omission) {
	if n := len(omitted); n > 0 && ch.pending() > 0 && omitted[n-1].Last > ch.last {
		ch.reads.omitted = max(ch.reads.omitted, omitted[n-1].Last)
	}
}

// heldFrom returns from where on the hold is whole: while a subscription is
// pending, all entries that the channel passed behind it, up to last, are in the
// hold, those that expired included. It is never beyond last, so a subscription
// that starts there has it before it.
func (ch *Channel) heldFrom() push.Offset {
	return max(ch.reads.from, min(ch.reads.omitted, ch.last))
}

// releaseHold empties the hold once nobody reads.
func (ch *Channel) releaseHold() {
	if ch.pending() == 0 && !ch.catching {
		ch.reads = nil
	}
}

func (ch *Channel) mark() readMark {
	r := ch.reads
	if r == nil {
		return readMark{}
	}
	return readMark{sure: r.hold.largest(), forgotten: r.hold.forgotten, heldFrom: ch.heldFrom()}
}

// Catch begins a catch-up and returns the offset to read from. The caller then
// owns it as after [Gap]. ok is false if one is under way, or if the channel's
// first subscription is not live: who reads for that reads once more, since what
// the caller is after may have come after the present read began.
func (ch *Channel) Catch() (after push.Offset, ok bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	switch {
	case ch.gone:
		return 0, false
	case ch.catching || !ch.started:
		ch.reading().again = true
		return 0, false
	}
	ch.beginCatch()
	return ch.last, true
}

func (ch *Channel) beginCatch() {
	ch.catching = true
	ch.reading().catch = ch.mark()
}

// CaughtUp takes what a read from after returned. The owner of the catch-up
// reads again, from next, until done is true, which ends its ownership. It waits
// where too much waits for a pass.
func (ch *Channel) CaughtUp(after push.Offset, p Page) (next push.Offset, done bool) {
	ch.lockWithRoom()
	defer ch.mu.Unlock()
	ch.apply(after, p)
	if !ch.gone && (!ch.complete(p) || ch.readAgain()) {
		ch.reads.catch = ch.mark()
		return ch.last, false
	}
	ch.catching = false
	ch.releaseHold()
	return ch.last, true
}

// readAgain reports, once, whether somebody wanted a catch-up since a read began.
func (ch *Channel) readAgain() bool {
	again := ch.reads.again
	ch.reads.again = false
	return again
}

// complete passes on what is held, after a catch-up's page p, and reports
// whether nothing is missing. An unsettled page proves nothing of what had
// arrived when its read began; but where all that is held follows on, nothing
// lies between.
func (ch *Channel) complete(p Page) bool {
	switch {
	case p.Unsettled:
		return len(ch.held().entries) > 0 && ch.held().largest() > ch.last && ch.drain(readMark{})
	case p.More:
		return false
	}
	return ch.drain(ch.reads.catch)
}

// Apply gives the live subscriptions what a read from after returned, which is
// whole up to its end but may lack what was appended lately. Unlike
// [Channel.CaughtUp] it ends nothing and passes on nothing held beyond that.
func (ch *Channel) Apply(after push.Offset, p Page) {
	ch.lockWithRoom()
	defer ch.mu.Unlock()
	if ch.started {
		ch.apply(after, p)
	}
}

// drain passes on what was held beyond last, after a read that began at m. It
// reports false, and stops, where something may lie between that the read did
// not cover: an entry that came after the read began and does not follow, or
// one that was forgotten meanwhile.
func (ch *Channel) drain(m readMark) bool {
	for _, e := range slices.Clone(ch.held().entries) {
		switch {
		case e.Offset <= ch.last:
		case e.Offset <= m.sure || ch.follows(e):
			ch.advance(e)
		default:
			return false
		}
	}
	return true
}

// apply gives what a read that began at after returned to the live
// subscriptions that lack it: a read made for one serves all. A read that began
// beyond last cannot: what lies between is unknown.
func (ch *Channel) apply(after push.Offset, p Page) {
	if !ch.started {
		for _, e := range p.Entries {
			ch.keep(e)
		}
		ch.leaveOut(p.Omitted)
		return
	}
	if after > ch.last {
		return
	}
	ch.leaveOut(p.Omitted)
	p = ch.held().merge(after, p, ch.hub.cfg.Now())
	for _, o := range p.Omitted {
		if o.Last > ch.last {
			ch.omit(o)
		}
	}
	for _, e := range p.Entries {
		if e.Offset > ch.last {
			ch.advance(e)
		}
	}
	ch.last = max(ch.last, p.End) // what lies between last and the end is for nobody
}
