// Package batcher lets concurrent calls share round trips to something that
// takes many items for hardly more than it takes for one.
package batcher

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Why a call was refused before anything was done.
var (
	ErrClosed = errors.New("the batcher is closed")
	ErrFull   = errors.New("too much waits already")
)

// Config tunes a [Batcher].
type Config struct {
	// Lanes is how many round trips are under way before calls gather; 2, so that
	// one large call does not hold up all others.
	Lanes int
	// Patience is how long calls gather behind round trips that do not end. Then
	// they get a lane more, up to MaxLanes. 0: as long as it takes.
	Patience time.Duration
	MaxLanes int
	// MaxItems is how many items calls may share a round trip with; one call may
	// have more.
	MaxItems int
	// MaxWaiting is how many items may wait for a round trip; more are refused.
	MaxWaiting int
}

// A Batcher does the work of calls: while its lanes are busy, calls gather, and
// the next round trip takes all of them. A call that comes when a lane is free
// goes at once, so nothing is delayed for company. Its methods may be called from
// any number of goroutines.
type Batcher[In, Out any] struct {
	// Fixed by New.
	cfg Config
	run func(context.Context, []In) ([]Out, error)

	all sync.WaitGroup // the lanes under way

	mu        sync.Mutex // guards what follows
	closed    bool
	running   int // lanes under way
	waiting   int // items of pending
	pending   []*call[In, Out]
	impatient bool // a timer runs for pending
}

// A call is one caller's part of a round trip. The lane writes out and err, and
// then closes done.
type call[In, Out any] struct {
	ctx   context.Context
	items []In
	out   []Out
	err   error
	done  chan struct{}
}

// New returns a batcher whose round trips are run's, which returns one outcome
// for each item or an error for all of them. It starts nothing.
func New[In, Out any](cfg Config, run func(context.Context, []In) ([]Out, error)) *Batcher[In, Out] {
	if cfg.Lanes <= 0 {
		cfg.Lanes = 2
	}
	return &Batcher[In, Out]{cfg: cfg, run: run}
}

// Do returns the outcome of items, in their order. It does not look at items
// after it returned. When ctx ends first, its error is returned; the items may be
// done all the same if they had begun to be, and are not if they still waited.
// [ErrFull] and [ErrClosed] are returned at once.
func (b *Batcher[In, Out]) Do(ctx context.Context, items []In) ([]Out, error) {
	c := &call[In, Out]{ctx: ctx, items: slices.Clone(items), done: make(chan struct{})}
	if err := b.enter(c); err != nil {
		return nil, err
	}
	select {
	case <-c.done:
		return c.out, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b *Batcher[In, Out]) enter(c *call[In, Out]) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	if b.waiting > 0 && b.waiting+len(c.items) > b.cfg.MaxWaiting {
		return fmt.Errorf("%w: %d items", ErrFull, b.waiting)
	}
	b.pending = append(b.pending, c)
	b.waiting += len(c.items)
	if b.running < b.cfg.Lanes {
		b.start()
	} else {
		b.loseNoTime()
	}
	return nil
}

// start adds a lane. The caller holds mu.
func (b *Batcher[In, Out]) start() {
	b.running++
	b.all.Go(b.lane)
}

// loseNoTime sees to it that what waits gets a lane more after Patience. The
// caller holds mu.
func (b *Batcher[In, Out]) loseNoTime() {
	if b.cfg.Patience <= 0 || b.impatient {
		return
	}
	b.impatient = true
	time.AfterFunc(b.cfg.Patience, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.impatient = false
		if len(b.pending) > 0 && b.running < b.cfg.MaxLanes && !b.closed {
			b.start()
		}
	})
}

// lane makes round trips until nothing waits.
func (b *Batcher[In, Out]) lane() {
	for {
		runtime.Gosched() // whoever is ready may come along
		calls := b.next()
		if calls == nil {
			return
		}
		b.roundTrip(calls)
	}
}

// next takes the calls of the next round trip, without those whose callers have
// left: after a stall there would be no time for the others. It returns nil if
// there are none: the lane has ended then.
func (b *Batcher[In, Out]) next() []*call[In, Out] {
	b.mu.Lock()
	defer b.mu.Unlock()
	var calls []*call[In, Out]
	n, items := 0, 0
	for ; n < len(b.pending); n++ {
		c := b.pending[n]
		if c.ctx.Err() == nil {
			if len(calls) > 0 && items+len(c.items) > b.cfg.MaxItems {
				break
			}
			calls = append(calls, c)
			items += len(c.items)
		}
		b.waiting -= len(c.items)
	}
	clear(b.pending[:n])
	if b.pending = b.pending[n:]; len(b.pending) == 0 {
		b.pending = nil
	} else {
		b.loseNoTime()
	}
	if calls == nil {
		b.running--
	}
	return calls
}

// roundTrip does the work of calls and answers them. It goes on as long as
// anybody waits for it: every call has a deadline.
func (b *Batcher[In, Out]) roundTrip(calls []*call[In, Out]) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var left atomic.Int64
	left.Store(int64(len(calls)))
	var items []In
	for _, c := range calls {
		items = append(items, c.items...)
		defer context.AfterFunc(c.ctx, func() {
			if left.Add(-1) == 0 {
				cancel(c.ctx.Err())
			}
		})()
	}
	out, err := b.run(ctx, items)
	if err == nil && len(out) != len(items) {
		err = errors.New("a round trip lost outcomes")
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	for _, c := range calls {
		if err != nil {
			c.err = err
		} else {
			c.out, out = out[:len(c.items):len(c.items)], out[len(c.items):]
		}
		close(c.done)
	}
}

// Close refuses further calls and waits for those under way.
func (b *Batcher[In, Out]) Close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.all.Wait()
}
