package dispatchfn

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

const (
	// aloneAfter is how often an entry may fail together with others; aloneAtOnce
	// is how many that did are dispatched side by side.
	aloneAfter  = 3
	aloneAtOnce = 8
	// roundBytes bounds the data that is dispatched together, unless one message
	// has more: about what a hand-off carries, and less than a node takes.
	// roundPlaces bounds its places in channels likewise, so that a round takes
	// about a second at most.
	roundBytes  = 4 << 20
	roundPlaces = 10_000
	// A round that has its places takes small entries all the same, with up to
	// extraPlaces in all: each wide one is a round of its own, and who has nothing
	// to do with it is to wait neither for all of them nor for what becomes of one.
	extraPlaces = 1_000
)

// A dueEntry is an entry of the outbox with its message, and what came of it.
type dueEntry struct {
	store.OutboxEntry
	message *push.Message
	tried   bool
	problem *push.Problem // of the try; nil if it is confirmed
}

// A queue brings the claimed entries of one look at the outbox to their channels
// in the order that they have there. One goroutine owns it.
type queue struct {
	h        *Handler
	outcomes *outcomes
	// until has the channels whose next entries have to wait because an older one
	// does, and when that one will be due.
	until map[push.Channel]time.Time
}

// behind holds back those of due that have to wait for one of ahead, and what
// has to wait for those, and returns the others. Ordered ones come by rising
// Sequence.
func (q *queue) behind(due []*dueEntry, ahead map[push.Channel]store.Ahead) (free []*dueEntry) {
	for _, e := range due {
		for _, c := range e.Channels {
			if a, ok := ahead[c]; ok && a.Sequence < e.Sequence {
				q.wait(e, a.DueAt)
			}
		}
		if !q.held(e) {
			free = append(free, e)
		}
	}
	return free
}

// wait has the channels of e wait until a time, or until a later one that they
// wait for already.
func (q *queue) wait(e *dueEntry, until time.Time) {
	for _, c := range e.Channels {
		if have, ok := q.until[c]; !ok || until.After(have) {
			q.until[c] = until
		}
	}
}

// held holds e back if one of its channels waits, and then has all of them wait.
func (q *queue) held(e *dueEntry) bool {
	due, waits := e.DueAt, false
	for _, c := range e.Channels {
		if until, ok := q.until[c]; ok {
			waits = true
			if until.After(due) {
				due = until
			}
		}
	}
	if waits {
		q.hold(e, due)
	}
	return waits
}

// hold puts e back as it was, to be due at a time. Of its channels nothing goes
// out before it.
func (q *queue) hold(e *dueEntry, due time.Time) {
	q.wait(e, due)
	e.DueAt = due
	q.h.metrics.outbox.WithLabelValues(outboxHeld).Inc()
	q.outcomes.held = append(q.outcomes.held, e.OutboxEntry)
}

// holdBack puts e back untried, to be due when it was, or with what its channels
// wait for.
func (q *queue) holdBack(e *dueEntry) {
	if !q.held(e) {
		q.hold(e, e.DueAt)
	}
}

// run dispatches entries, round by round, as long as ctx and half of the claim
// last. What it does not come to is put back.
func (q *queue) run(ctx context.Context, entries []*dueEntry) {
	for began := time.Now(); len(entries) > 0; {
		var free []*dueEntry
		for _, e := range entries {
			if !q.held(e) {
				free = append(free, e)
			}
		}
		if ctx.Err() != nil || time.Since(began) > q.h.cfg.OutboxClaim/2 {
			for _, e := range free {
				q.hold(e, e.DueAt)
			}
			return
		}
		r := newRound(free)
		r.dispatch(ctx, q.h)
		for _, e := range r.entries {
			q.settle(e)
		}
		entries = r.later
	}
}

// settle says what becomes of e after its round.
func (q *queue) settle(e *dueEntry) {
	h, o := q.h, q.outcomes
	switch {
	case !e.tried:
		q.holdBack(e)
	case e.problem == nil:
		h.metrics.outbox.WithLabelValues(outboxConfirmed).Inc()
		o.done = append(o.done, e.Message)
	case h.hopeless(e.OutboxEntry, e.problem):
		h.park(o, e.OutboxEntry, e.problem.Error(), e.message.ExpiresAt) // what follows it may pass
	default:
		h.metrics.outbox.WithLabelValues(outboxRetry).Inc()
		r := retry(e.OutboxEntry, e.problem, h.reg.Now())
		for _, c := range e.Channels { // not before what failed before it
			if until, ok := q.until[c]; ok && until.After(r.DueAt) {
				r.DueAt = until
			}
		}
		q.wait(e, r.DueAt)
		o.retries = append(o.retries, r)
	}
}

// A round is what may be dispatched at once without anything overtaking.
// Messages fail together with what they are dispatched with, so those that have
// failed before go alone: none is given up for another's sake.
type round struct {
	entries  []*dueEntry // in their order
	together []*dueEntry
	extra    []*dueEntry // small ones, none of a channel of together
	alone    []*dueEntry // no two of one channel, and none of a channel of together or extra
	later    []*dueEntry // the rest, in their order
}

func newRound(entries []*dueEntry) *round {
	r := &round{}
	taken, with, beside := make(channelSet), make(channelSet), make(channelSet) // by those alone or later, together, extra
	bytes, places, extra := 0, 0, 0
	for _, e := range entries {
		alone, width := e.Attempts >= aloneAfter, e.message.To.AtMost() // an entry without order has no Channels
		isExtra := !alone && places >= roundPlaces                      // so together takes no more
		full := bytes >= roundBytes || isExtra && (width > smallPlaces || extra+width > extraPlaces)
		switch {
		case taken.hasAny(e.Channels), (alone || isExtra) && with.hasAny(e.Channels), alone && beside.hasAny(e.Channels), !alone && full:
			r.later = append(r.later, e)
			taken.add(e.Channels)
			continue
		case alone:
			r.alone = append(r.alone, e)
			taken.add(e.Channels)
		case isExtra:
			r.extra = append(r.extra, e)
			beside.add(e.Channels)
			bytes += len(e.message.Data)
			extra += width
		default:
			r.together = append(r.together, e)
			with.add(e.Channels)
			bytes += len(e.message.Data)
			places += width
		}
		r.entries = append(r.entries, e)
	}
	return r
}

// dispatch sets what came of each entry.
func (r *round) dispatch(ctx context.Context, h *Handler) {
	try := func(entries []*dueEntry) error {
		for _, e := range entries { // whatever happens: what panics is parked in the end
			e.problem, e.tried = push.NewProblem(push.CodeInternal, "the message could not be dispatched"), true
		}
		messages := make([]*push.Message, len(entries))
		for i, e := range entries {
			messages[i] = e.message
		}
		problems, tried := h.dispatch(ctx, messages, true)
		for i, e := range entries {
			e.problem, e.tried = problems[i], i < tried
		}
		return nil
	}
	var g errgroup.Group
	g.SetLimit(aloneAtOnce)
	if len(r.extra) > 0 { // first, to wait for none of those alone
		g.Go(h.guard(func() error { return try(r.extra) }))
	}
	for i := range r.alone {
		g.Go(h.guard(func() error { return try(r.alone[i : i+1]) }))
	}
	if len(r.together) > 0 {
		_ = h.guard(func() error { return try(r.together) })()
	}
	_ = g.Wait() // what panicked has its problem
}

// A channelSet is a set of channels.
type channelSet map[push.Channel]bool

func (s channelSet) add(channels []push.Channel) {
	for _, c := range channels {
		s[c] = true
	}
}

func (s channelSet) hasAny(channels []push.Channel) bool {
	for _, c := range channels {
		if s[c] {
			return true
		}
	}
	return false
}
