package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"pushcluster/shared/store"
)

// lanes is how many round trips of one kind are under way at most. Two, so that
// one large call does not hold up all others.
const lanes = 2

// A batcher lets concurrent calls share round trips: while its lanes are busy,
// calls gather, and the next round trip takes all of them. A call that comes
// when a lane is free goes at once, so nothing is delayed for company.
type batcher[In, Out any] struct {
	// Fixed by newBatcher.
	maxItems   int // that calls may share
	maxWaiting int
	// run does the work of several calls; it returns one outcome for each item.
	run func(context.Context, []In) ([]Out, error)

	all sync.WaitGroup // the lanes under way

	mu      sync.Mutex // guards what follows
	closed  bool
	running int // lanes under way
	waiting int // items of pending
	pending []*call[In, Out]
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

func newBatcher[In, Out any](cfg Config, run func(context.Context, []In) ([]Out, error)) *batcher[In, Out] {
	return &batcher[In, Out]{maxItems: cfg.MaxBatch, maxWaiting: cfg.MaxWaiting, run: run}
}

// do returns the outcome of items, in their order. It does not look at items
// after it returned. When ctx ends first, they may be written all the same. When
// too much waits, it refuses at once.
func (b *batcher[In, Out]) do(ctx context.Context, items []In) ([]Out, error) {
	c := &call[In, Out]{ctx: ctx, items: slices.Clone(items), done: make(chan struct{})}
	if err := b.enter(c); err != nil {
		return nil, err
	}
	select {
	case <-c.done:
		return c.out, c.err
	case <-ctx.Done():
		return nil, unavailable(ctx.Err())
	}
}

func (b *batcher[In, Out]) enter(c *call[In, Out]) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errClosed
	}
	if b.waiting > 0 && b.waiting+len(c.items) > b.maxWaiting {
		return fmt.Errorf("%w: %d writes wait already", store.ErrUnavailable, b.waiting)
	}
	b.pending = append(b.pending, c)
	b.waiting += len(c.items)
	if b.running < lanes {
		b.running++
		b.all.Go(b.lane)
	}
	return nil
}

// lane makes round trips until nothing waits.
func (b *batcher[In, Out]) lane() {
	for {
		calls := b.next()
		if calls == nil {
			return
		}
		b.roundTrip(calls)
	}
}

// next takes the calls of the next round trip. It returns nil if there are none:
// the lane has ended then.
func (b *batcher[In, Out]) next() []*call[In, Out] {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, items := 0, 0
	for n < len(b.pending) && (n == 0 || items+len(b.pending[n].items) <= b.maxItems) {
		items += len(b.pending[n].items)
		n++
	}
	if n == 0 {
		b.running--
		return nil
	}
	calls := b.pending[:n:n]
	if b.pending = b.pending[n:]; len(b.pending) == 0 {
		b.pending = nil
	}
	b.waiting -= items
	return calls
}

// roundTrip does the work of calls and answers them. It goes on as long as
// anybody waits for it: every call has a deadline.
func (b *batcher[In, Out]) roundTrip(calls []*call[In, Out]) {
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
		err = errors.New("mongostore: a round trip lost outcomes")
	}
	if err != nil && ctx.Err() != nil {
		err = unavailable(context.Cause(ctx))
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

// close refuses further calls and waits for those under way.
func (b *batcher[In, Out]) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.all.Wait()
}
