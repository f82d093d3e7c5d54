package dispatchfn

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync"
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

// The bounds of requests that go together.
const (
	gatherCalls  = 64
	gatherPlaces = 128
	gatherBytes  = 512 << 10
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
	places   int
	bytes    int

	// Owned by the batch.
	first   int          // its first message in the batch
	pending atomic.Int32 // what of its own is not done: the inbox, and a node each

	ended    atomic.Bool
	done     chan struct{}   // closed when it has ended
	problems []*push.Problem // by message; written before done is closed
}

// newCall returns a call for messages, false if they are no small request.
func newCall(messages []*push.Message) (*call, bool) {
	c := &call{messages: messages}
	if len(messages) > smallMessages {
		return nil, false
	}
	for _, m := range messages {
		c.places += len(m.To.Users) + len(m.To.Channels) + 1
		c.bytes += len(m.Data)
	}
	return c, c.places <= smallPlaces+len(messages) && c.bytes <= smallBytes
}

// end gives the call its problems; the first one counts.
func (c *call) end(problems []*push.Problem) {
	if !c.ended.Swap(true) {
		c.problems = problems
		close(c.done)
	}
}

// gathering is where calls wait for the batch that they go with.
type gathering struct {
	mu        sync.Mutex // guards what follows
	waiting   []*call
	led       bool // somebody is about to take what waits
	appending int  // batches that have not taken their places yet
	since     time.Time
}

// add has c wait, and reports whether the caller is to lead.
func (g *gathering) add(c *call, now time.Time) (lead bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, c)
	if g.led || g.appending > 0 && (g.appending >= gatherAtOnce || now.Sub(g.since) < gatherShare) {
		return false
	}
	g.led = true
	return true
}

// take returns the calls that go together now, at least one, and counts them as
// being appended. The caller leads.
func (g *gathering) take() []*call {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, places, bytes := 0, 0, 0
	for n < len(g.waiting) && n < gatherCalls {
		c := g.waiting[n]
		if n > 0 && (places+c.places > gatherPlaces || bytes+c.bytes > gatherBytes) {
			break
		}
		places, bytes = places+c.places, bytes+c.bytes
		n++
	}
	calls := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	g.led = false
	g.appending++
	g.since = time.Now()
	return calls
}

// appended says that a batch has taken its places, or never will, and reports
// whether somebody is to lead what came meanwhile.
func (g *gathering) appended() (lead bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.appending--
	if len(g.waiting) == 0 {
		g.waiting = nil // what was taken is not held on to
		return false
	}
	if g.led {
		return false
	}
	g.led = true
	return true
}

// together dispatches a small request, alone or with others.
func (h *Handler) together(ctx context.Context, c *call) []*push.Problem {
	began := time.Now()
	c.done = make(chan struct{})
	if h.gathering.add(c, began) {
		runtime.Gosched() // whoever is ready may come along
		calls := h.gathering.take()
		if len(calls) == 1 && calls[0] == c {
			h.lead(ctx, calls)
		} else {
			go h.lead(context.Background(), calls) // they wait for it, and it outlasts none that leaves
		}
	}
	<-c.done
	h.metrics.seconds.Observe(time.Since(began).Seconds())
	return c.problems
}

// lead dispatches calls as one batch, and has what comes meanwhile follow. When
// it returns, all of calls have ended.
func (h *Handler) lead(ctx context.Context, calls []*call) {
	messages := calls[0].messages
	if len(calls) > 1 {
		messages = make([]*push.Message, 0, 2*len(calls))
		for _, c := range calls {
			c.first = len(messages)
			messages = append(messages, c.messages...)
		}
	}
	b := &batch{h: h, calls: calls}
	b.appended = func() {
		b.appended = nil
		if h.gathering.appended() {
			go func() { h.lead(context.Background(), h.gathering.take()) }() // as above
		}
	}
	defer func() {
		if p := recover(); p != nil {
			h.log.Error("panic in a batch", "panic", p, "stack", string(debug.Stack()))
			b.failRest(len(messages), push.NewProblem(push.CodeInternal, "the message could not be dispatched"))
		}
		if b.appended != nil {
			b.appended()
		}
		b.endAll()
	}()
	ctx = h.whole.under(ctx, time.Now())
	if !h.enter(ctx) {
		b.problems = make([]*push.Problem, len(messages))
		h.notTried(b.problems, push.NewProblem(push.CodeUnavailable, "too much is being dispatched"))
		return
	}
	defer h.leave()
	b.take(messages)
	b.run(ctx)
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

func (b *batch) end(c *call) { c.end(b.problems[c.first : c.first+len(c.messages)]) }

// failRest sets the problem of every one of n messages that has none: nobody
// knows how far it came.
func (b *batch) failRest(n int, p *push.Problem) {
	b.problems = append(b.problems, make([]*push.Problem, n-len(b.problems))...)
	for i := range b.problems {
		if b.problems[i] == nil {
			b.problems[i] = p
		}
	}
}

// endAll ends the calls that have not ended.
func (b *batch) endAll() {
	for _, c := range b.calls {
		b.end(c)
	}
}
