package dispatchfn

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"pushcluster/shared/push"
)

// Most of what a small request costs is paid for each batch: a turn at Redis, a
// batch on each node's stream, a write of the inbox, contexts and wake-ups. So
// small requests that meet are one batch. Nobody waits for a time: who finds
// nothing being appended goes at once, and what comes while a batch is appended
// goes with the next. A request is answered when all that is its own is done.

// The bounds of a request that may go with others. A larger one goes alone, as
// does one that may have been dispatched before: it may have to ask the inbox.
const (
	smallMessages = 16
	smallPlaces   = 16
	smallBytes    = 64 << 10 // of data
)

// The bounds of requests that go together. So many meet only where each append
// takes long; with more at once it takes no longer, and more get through.
const (
	gatherCalls  = 256
	gatherPlaces = 512
	gatherBytes  = 2 << 20
)

// Behind a batch that has been appended for longer than gatherShare nothing
// waits while fewer than gatherAtOnce are: then Redis is far, or held up.
const (
	gatherShare  = time.Millisecond
	gatherAtOnce = 4
)

// A call is a small request.
type call struct {
	// Fixed by newCall.
	messages []*push.Message
	places   int // at most so many
	bytes    int
	began    time.Time

	// Owned by the batch.
	first   int          // its first message in the batch
	pending atomic.Int32 // what of its own is not done: the inbox, and a node each

	ended    atomic.Bool
	done     chan struct{}   // closed when it has ended
	problems []*push.Problem // by message; written before done is closed
}

// newCall returns a call for messages, false if they are no small request, or if
// they may not be one batch of so many places at most.
func newCall(messages []*push.Message, most int) (*call, bool) {
	c := &call{messages: messages}
	if len(messages) > smallMessages {
		return nil, false
	}
	for _, m := range messages {
		c.places += m.To.AtMost()
		c.bytes += len(m.Data)
	}
	return c, c.places <= min(smallPlaces+len(messages), most) && c.bytes <= smallBytes
}

// end gives the call its problems; the first one counts.
func (c *call) end(problems []*push.Problem) {
	if !c.ended.Swap(true) {
		c.problems = problems
		close(c.done)
	}
}

// fail ends the call with p for each of its messages that has none in known,
// which may be shorter than they are, and returns for how many.
func (c *call) fail(known []*push.Problem, p *push.Problem) int {
	problems, n := make([]*push.Problem, len(c.messages)), 0
	copy(problems, known)
	for i := range problems {
		if problems[i] == nil {
			problems[i] = p
			n++
		}
	}
	c.end(problems)
	return n
}

// together dispatches a small request, alone or with others. A request that
// waits when ctx ends has not been tried; one that is in a batch ends with it,
// Config.Deadline after the oldest of them came at the latest.
func (h *Handler) together(ctx context.Context, c *call) []*push.Problem {
	c.began = time.Now()
	c.done = make(chan struct{})
	lead, ok := h.gathering.add(c)
	if !ok {
		h.refuse([]*call{c})
		return c.problems
	}
	if lead {
		runtime.Gosched() // whoever is ready may come along
		h.leadWith(ctx, c)
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		if h.gathering.leave(c) {
			h.refuse([]*call{c})
		}
		<-c.done // it shares its messages with the batch
	}
	h.metrics.seconds.Observe(time.Since(c.began).Seconds())
	return c.problems
}

// leadWith leads the batch that c, whose context ctx is, may be in. If nothing
// else is in it, it has ended when leadWith returns.
func (h *Handler) leadWith(ctx context.Context, c *call) {
	if !h.enterAtOnce() {
		h.running.run(h.leadNext)
		return
	}
	calls, again := h.take()
	switch {
	case len(calls) == 0:
		h.leave()
	case len(calls) == 1 && calls[0] == c:
		h.lead(ctx, calls, again)
	default:
		h.running.run(func() { h.leadMany(calls, again) }) // they wait for it, and it outlasts none that leaves
	}
}

// leadNext leads what waits, once it is its turn, and refuses what has waited
// too long until then. The caller was told to lead.
func (h *Handler) leadNext() {
	for {
		began, ok := h.gathering.oldest()
		if !ok {
			return
		}
		if h.enter(h.whole.under(context.Background(), began)) {
			break
		}
		h.refuse(h.gathering.tooLate(time.Now()))
	}
	if calls, again := h.take(); len(calls) > 0 {
		h.leadMany(calls, again)
	} else {
		h.leave()
	}
}

// take returns the calls that go together now, and whether they may have been
// dispatched before. The caller leads, and has its turn.
func (h *Handler) take() (calls []*call, again bool) {
	calls, again, late := h.gathering.take(time.Now())
	h.refuse(late)
	return calls, again
}

// refuse ends calls that were not tried.
func (h *Handler) refuse(calls []*call) {
	for _, c := range calls {
		n := c.fail(nil, push.NewProblem(push.CodeUnavailable, "too much is being dispatched"))
		h.metrics.messages.WithLabelValues(outcomeFailed).Add(float64(n))
	}
}

// leadMany is lead for calls whose goroutines wait elsewhere. A panic of this
// goroutine ends here: it has failed those of calls that had not ended.
func (h *Handler) leadMany(calls []*call, again bool) {
	_ = h.guard(func() error { // calls have their problems
		h.lead(context.Background(), calls, again)
		return nil
	})()
}

// lead dispatches calls as one batch, and has what comes meanwhile follow. The
// caller has entered, which ends here. When lead returns, or panics, all of
// calls have ended.
func (h *Handler) lead(ctx context.Context, calls []*call, again bool) {
	messages := calls[0].messages
	if len(calls) > 1 {
		messages = make([]*push.Message, 0, 2*len(calls))
		for _, c := range calls {
			c.first = len(messages)
			messages = append(messages, c.messages...)
		}
	}
	b := &batch{h: h, again: again, calls: calls}
	b.appended = func() {
		b.appended = nil
		if h.gathering.appended() {
			h.running.run(h.leadNext)
		}
	}
	defer h.leave()
	whole := false
	defer func() {
		if b.appended != nil {
			b.appended()
		}
		b.endAll(whole)
	}()
	b.take(messages) // all: a batch has no more places than the calls
	b.run(h.whole.under(ctx, calls[0].began))
	whole = true
}

// expect notes what the calls of the batch wait for besides the inbox: each node
// that one of its places goes to.
func (b *batch) expect(parcels []*parcel) {
	if len(b.calls) < 2 {
		return // it ends with the batch
	}
	for _, c := range b.calls {
		c.pending.Store(1)
	}
	for _, p := range parcels {
		b.eachCall(p, func(c *call) { c.pending.Add(1) })
	}
}

// eachCall calls f for each call that has a place in p.
func (b *batch) eachCall(p *parcel, f func(*call)) {
	n, last := 0, -1
	for _, i := range p.places { // in the order of the calls
		message := b.places[i].message
		for n+1 < len(b.calls) && b.calls[n+1].first <= message {
			n++
		}
		if n != last {
			f(b.calls[n])
			last = n
		}
	}
}

// kept ends the calls that waited for the inbox alone. Everything stands where it
// is to stand.
func (b *batch) kept() {
	if len(b.calls) < 2 {
		return
	}
	b.judge()
	for _, c := range b.calls {
		b.less(c)
	}
}

// delivered ends the calls that waited for the node of p last.
func (b *batch) delivered(p *parcel) {
	if len(b.calls) > 1 {
		b.eachCall(p, b.less)
	}
}

// less notes that something that c waits for is done.
func (b *batch) less(c *call) {
	if c.pending.Add(-1) == 0 {
		b.end(c)
	}
}

// end ends c with the outcome of the batch. Messages that the batch does not have
// were not dispatched, and fail.
func (b *batch) end(c *call) {
	if last := c.first + len(c.messages); last <= len(b.problems) {
		c.end(b.problems[c.first:last])
		return
	}
	b.lose(c)
}

// lose ends c, of which nobody knows how far it came, and returns how many of
// its messages fail for that.
func (b *batch) lose(c *call) int {
	have := len(b.problems)
	return c.fail(b.problems[min(c.first, have):min(c.first+len(c.messages), have)],
		push.NewProblem(push.CodeInternal, "the message could not be dispatched"))
}

// endAll ends the calls that have not ended, with the outcome of the batch if it
// is whole: else nobody knows how far they came. What ended before keeps its
// problems, which are its own to read. Nothing else of the batch runs.
func (b *batch) endAll(whole bool) {
	lost := 0
	for _, c := range b.calls {
		switch {
		case c.ended.Load():
		case whole:
			b.end(c)
		default:
			lost += b.lose(c)
		}
	}
	if lost > 0 && !b.judged { // else they are counted
		b.h.metrics.messages.WithLabelValues(outcomeFailed).Add(float64(lost))
	}
}
