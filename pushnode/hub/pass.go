package hub

import (
	"slices"

	"github.com/segmentio/encoding/json"

	"pushcluster/shared/push"
)

// A channel of many subscriptions is passed over by somebody else than who
// delivers: see [Config.Pass]. What is accepted while a pass is under way gathers,
// and the next pass gives all of it to each connection at once, which then is one
// write in place of several.
//
// To the rest of the hub it is as if an entry was given when it was accepted:
// last is the last that was, and what came before a subscription was live is kept
// in the hold. Only positions tell: each is that of what was given.

const (
	// What may wait for the next pass before those who deliver have to.
	maxWaiting      = 1024    // entries
	maxWaitingBytes = 1 << 20 // of data

	// groupBytes is about how long a frame is that one pass gives to a connection,
	// unless one entry alone is longer.
	groupBytes = 32 << 10
)

// A pass is what a channel knows while somebody passes over it.
type pass struct {
	waiting []push.Entry  // accepted, for a later pass; by rising offset
	bytes   int           // of data in waiting
	room    chan struct{} // closed when the next pass has taken of waiting; nil: nobody waits for that

	group *Publication    // what the pass under way gives
	subs  []*Subscription // whom it is still to give that
	list  []*Subscription // the memory of subs
}

// wide reports whether what is accepted waits for a pass. The channel's mu is
// held.
func (ch *Channel) wide() bool {
	return ch.pass != nil || ch.hub.cfg.Pass != nil && len(ch.subs) >= ch.hub.cfg.Wide
}

// wait has e, which was accepted, wait for the next pass.
func (ch *Channel) wait(e push.Entry) {
	begin := ch.pass == nil
	if begin {
		ch.pass = &pass{}
	}
	e.Message = detached(e.Message)
	ch.pass.waiting = append(ch.pass.waiting, e)
	ch.pass.bytes += len(e.Message.Data)
	if begin {
		ch.hub.cfg.Pass(ch.step)
	}
}

// lockWithRoom locks the channel when there is room for what waits for a pass.
// Whoever is passing over it needs nothing of the caller to go on.
func (ch *Channel) lockWithRoom() {
	ch.mu.Lock()
	for ch.pass != nil && (len(ch.pass.waiting) >= maxWaiting || ch.pass.bytes >= maxWaitingBytes) {
		if ch.pass.room == nil {
			ch.pass.room = make(chan struct{})
		}
		room := ch.pass.room
		ch.mu.Unlock()
		if told := ch.hub.cfg.Waited; told != nil {
			told()
		}
		<-room
		ch.mu.Lock()
	}
}

// step gives some subscriptions what the pass gives, or begins another pass. It
// reports false, and is not called again, when nothing waits any more.
func (ch *Channel) step() (more bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	p := ch.pass
	if len(p.subs) == 0 {
		if len(p.waiting) == 0 {
			ch.pass = nil
			return false
		}
		p.group = p.take()
		// Who goes live later has what waits from the hold.
		p.list = append(p.list[:0], ch.subs...)
		p.subs = p.list
	}
	n := min(ch.hub.cfg.Step, len(p.subs))
	for _, sub := range p.subs[:n] {
		if sub.live && !sub.ended {
			sub.give(p.group)
		}
	}
	clear(p.subs[:n])
	p.subs = p.subs[n:]
	return true
}

// take takes what one pass gives off what waits. Data that is no JSON goes alone:
// there are connections that cannot be given it, and they count it.
func (p *pass) take() *Publication {
	n, size := 0, 0
	for i := range p.waiting {
		e := &p.waiting[i]
		if n > 0 && (size+EncodedSize(e) > groupBytes || !json.Valid(e.Message.Data)) {
			break
		}
		size += EncodedSize(e)
		p.bytes -= len(e.Message.Data)
		if n++; n == 1 && len(p.waiting) > 1 && !json.Valid(e.Message.Data) {
			break
		}
	}
	group := newGroup(slices.Clone(p.waiting[:n]))
	p.waiting = slices.Delete(p.waiting, 0, n)
	if p.room != nil {
		close(p.room)
		p.room = nil
	}
	return group
}
