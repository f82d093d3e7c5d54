package node

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"pushcluster/shared/store"
)

const (
	questionsAtOnce = 2      // of one kind under way; two, so that one slow answer does not hold up all others
	questionKeys    = 256    // keys of one question
	questionsWait   = 65_536 // keys that wait; further ones are refused
)

// A gatherer lets concurrent callers share questions to the store: while its
// questions are under way keys gather, and the next question takes them along. A
// key that comes when nothing is under way is asked for at once.
type gatherer[K comparable, V any] struct {
	// Fixed by newGatherer.
	ctx  context.Context                             // of the questions
	work func(func())                                // has a goroutine that the node waits for do what ends by itself
	ask  func(context.Context, []K) (map[K]V, error) // one question; a key without an answer is left out
	lost func()                                      // told of each key that is not asked for
	free sync.Pool                                   // of *asked that nobody knows any more

	mu      sync.Mutex // guards what follows
	running int        // goroutines that ask
	waiting []*asked[K, V]
}

// An asked is one caller's key. Who asks writes value and err, and then sends to
// done.
type asked[K comparable, V any] struct {
	ctx   context.Context // the caller's; once it has ended nobody waits for an answer
	key   K
	value V // zero where there is no answer
	err   error
	done  chan struct{} // of one
}

func newGatherer[K comparable, V any](ctx context.Context, work func(func()), ask func(context.Context, []K) (map[K]V, error), lost func()) *gatherer[K, V] {
	return &gatherer[K, V]{ctx: ctx, work: work, ask: ask, lost: lost}
}

// of returns the answer for key, as the store had it at some time after the call
// began. When too much waits, it refuses at once with [store.ErrUnavailable].
func (g *gatherer[K, V]) of(ctx context.Context, key K) (V, error) {
	a, ok := g.free.Get().(*asked[K, V])
	if !ok {
		a = &asked[K, V]{done: make(chan struct{}, 1)}
	}
	a.ctx, a.key = ctx, key
	if err := g.enter(a); err != nil {
		return a.value, err
	}
	select {
	case <-a.done:
		value, err := a.value, a.err
		*a = asked[K, V]{done: a.done}
		g.free.Put(a)
		return value, err
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
}

// enter lets a wait, and sees to it that somebody asks.
func (g *gatherer[K, V]) enter(a *asked[K, V]) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) >= questionsWait {
		g.waiting = slices.DeleteFunc(g.waiting, g.dropped)
	}
	if len(g.waiting) >= questionsWait {
		g.lost()
		return fmt.Errorf("%w: %d questions wait", store.ErrUnavailable, len(g.waiting))
	}
	g.waiting = append(g.waiting, a)
	if g.running < questionsAtOnce {
		g.running++
		g.work(g.run)
	}
	return nil
}

// run asks for what waits until nothing does.
func (g *gatherer[K, V]) run() {
	for {
		runtime.Gosched() // whoever is ready may come along
		batch := g.next()
		if len(batch) == 0 {
			return
		}
		keys := make([]K, len(batch))
		for i, a := range batch {
			keys[i] = a.key
		}
		values, err := g.ask(g.ctx, keys)
		if err != nil && len(keys) > 1 && !errors.Is(err, store.ErrUnavailable) && g.ctx.Err() == nil {
			g.askEach(batch) // one of them may be the cause, and the others are not to suffer
			continue
		}
		for _, a := range batch {
			a.value, a.err = values[a.key], err
			a.done <- struct{}{}
		}
	}
}

// askEach asks for each key by itself.
func (g *gatherer[K, V]) askEach(batch []*asked[K, V]) {
	for _, a := range batch {
		if g.dropped(a) {
			continue
		}
		values, err := g.ask(g.ctx, []K{a.key})
		a.value, a.err = values[a.key], err
		a.done <- struct{}{}
	}
}

// next returns what the next question takes, without those whose callers have
// left: else, where more comes than the store can answer, all answers would be
// for nobody. When it is nothing, whoever asks has ended.
func (g *gatherer[K, V]) next() []*asked[K, V] {
	g.mu.Lock()
	defer g.mu.Unlock()
	var batch []*asked[K, V]
	n := 0
	for ; n < len(g.waiting) && len(batch) < questionKeys; n++ {
		if a := g.waiting[n]; !g.dropped(a) {
			batch = append(batch, a)
		}
	}
	clear(g.waiting[:n])
	g.waiting = g.waiting[n:]
	if len(batch) == 0 {
		g.running--
		g.waiting = nil
	}
	return batch
}

// dropped reports whether a's caller waits no more, and then ends a.
func (g *gatherer[K, V]) dropped(a *asked[K, V]) bool {
	if a.ctx.Err() == nil {
		return false
	}
	g.lost()
	a.err = a.ctx.Err()
	a.done <- struct{}{}
	return true
}
