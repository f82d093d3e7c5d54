// Package hub holds a node's local side: which connections follow which
// channel, how far each has come, and what order they get messages in. It does
// no I/O; the node reads logs and inboxes and hands the hub what it read.
//
// The order of one channel is kept by four rules:
//
//   - A channel knows the last offset that all its live subscriptions were
//     given. An entry that names a predecessor beyond it (or none) shows a gap:
//     the channel then holds live entries until a catch-up has read what lies
//     between.
//   - A subscription knows the offset it was last given and takes only later
//     ones, so nothing is repeated on one connection.
//   - A new subscription is not live: it is given what a read from its own
//     position returns, while the channel holds what arrives meanwhile. The
//     read starts after the channel's route was written, and every append comes
//     before its routes are read, so each entry is in the read or in the hold.
//   - The hold is bounded. What does not fit is forgotten and read again.
package hub

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A Connection is what a subscription gives publications to.
type Connection interface {
	// Publish queues p. It never blocks and never calls back into the hub. Where p
	// is brief it keeps nothing of it ([Publication.Brief]).
	Publish(p *Publication)
	// Omit says that the connection is not given the entries of o, because they
	// have expired or were superseded, and that what comes next lies beyond
	// them. It never blocks and never calls back into the hub.
	Omit(channel push.Channel, o store.Omission)
}

// A Page is what a read of a channel after some offset returned: what the
// channel holds for clients up to and including End.
type Page struct {
	Entries []push.Entry     // by rising offset
	Omitted []store.Omission // what there was besides; by rising offset
	End     push.Offset
	More    bool // there may be entries beyond End
	// Unsettled is true, with More, if the page stops where entries may still
	// appear among those that a read can see: it is read again after a while.
	Unsettled bool
}

// shards is how many locks the map of channels has: a power of two, enough that
// connects on many cores seldom meet.
const shards = 64

// A Hub holds the channels that have local subscriptions. Its methods may be
// called from any goroutine.
type Hub struct {
	cfg   Config
	seed  maphash.Seed
	shard [shards]shard

	registrations atomic.Int64
	publications  sync.Pool // of brief ones
}

type shard struct {
	mu       sync.Mutex // taken before a Channel's mu
	channels map[push.Channel]*Channel
}

// A Config bounds what a channel may hold. Zero values mean the defaults.
type Config struct {
	HoldEntries int // entries held per channel while something is read; default 256
	HoldBytes   int // bytes of data held per channel; default 256 KiB
	// Now judges what has expired: Redis' clock. Default time.Now.
	Now func() time.Time
	// Pass has somebody pass over a channel of many subscriptions, so that who
	// delivers to it need not: it returns at once and has step called, one call
	// after another, until that reports false. Default nil: who delivers passes.
	Pass func(step func() bool)
	// Waited is told that somebody has to wait for room in a channel that is passed
	// over. It must not block. Default nil.
	Waited func()
	Wide   int // from how many subscriptions on that is done; default 64
	Step   int // how many of them one step gives what there is; default 64
}

// New returns an empty hub.
func New(cfg Config) *Hub {
	if cfg.HoldEntries == 0 {
		cfg.HoldEntries = 256
	}
	if cfg.HoldBytes == 0 {
		cfg.HoldBytes = 256 << 10
	}
	if cfg.Wide == 0 {
		cfg.Wide = 64
	}
	if cfg.Step == 0 {
		cfg.Step = 64
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	h := &Hub{cfg: cfg, seed: maphash.MakeSeed()}
	for i := range h.shard {
		h.shard[i].channels = make(map[push.Channel]*Channel)
	}
	return h
}

func (h *Hub) shardOf(name push.Channel) *shard {
	return &h.shard[maphash.String(h.seed, string(name))%shards]
}

// Subscribe adds a subscription of conn to the channel name. It is not live yet
// and is given nothing before [Subscription.GoLive]. The caller makes sure that
// the channel's route is written ([Channel.Register]), reads from the
// subscription's position, and ends it with [Hub.Unsubscribe].
func (h *Hub) Subscribe(name push.Channel, conn Connection) *Subscription {
	s := h.shardOf(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.channels[name]
	if ch == nil {
		ch = &Channel{name: name, hub: h, registration: h.registrations.Add(1)}
		s.channels[name] = ch
	}
	return ch.add(conn)
}

// Unsubscribe ends sub, which is given nothing more. If it was the channel's
// last, the channel is gone from the hub and last is true: the caller removes
// the route under the channel's registration. Ending twice does nothing.
func (h *Hub) Unsubscribe(sub *Subscription) (last bool) {
	ch := sub.channel
	s := h.shardOf(ch.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ch.remove(sub) {
		return false
	}
	delete(s.channels, ch.name)
	return true
}

// An Outcome says what became of a delivered entry.
type Outcome int

// The outcomes.
const (
	Unknown Outcome = iota // no local subscription: the route that led here is stale
	Taken                  // given to the live subscriptions
	Held                   // waits for a read that is under way
	Repeat                 // was given before
	Gap                    // held; the caller runs a catch-up of the channel

	Outcomes int = iota // how many there are
)

// Deliver takes an entry that Dispatch sent and gives it to the channel's live
// subscriptions, in order, or has it wait for a pass over them; it waits itself
// where too much does. On [Gap] the caller owns the catch-up: it reads from
// [Channel.Last] and calls [Channel.CaughtUp] until that reports done. When
// Deliver returns, nothing of e is in use any more: what waits or is held is a
// copy.
func (h *Hub) Deliver(e push.Entry) (Outcome, *Channel) {
	ch := h.Channel(e.Channel)
	if ch == nil {
		return Unknown, nil
	}
	return ch.deliver(e), ch
}

// Channel returns the channel of that name, nil if it has no subscription.
func (h *Hub) Channel(name push.Channel) *Channel {
	s := h.shardOf(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.channels[name]
}

// Channels returns all channels that have subscriptions at the moment.
func (h *Hub) Channels() []*Channel {
	var all []*Channel
	for i := range h.shard {
		s := &h.shard[i]
		s.mu.Lock()
		for _, ch := range s.channels {
			all = append(all, ch)
		}
		s.mu.Unlock()
	}
	return all
}

// Len returns how many channels have subscriptions.
func (h *Hub) Len() int {
	n := 0
	for i := range h.shard {
		s := &h.shard[i]
		s.mu.Lock()
		n += len(s.channels)
		s.mu.Unlock()
	}
	return n
}
