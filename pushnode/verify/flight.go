package verify

import (
	"context"
	"sync"

	"pushcluster/shared/push"
)

// flights lets questions about one thing share one answer. It does what
// x/sync/singleflight does with channels, and besides knows when its goroutines
// have ended.
type flights struct {
	mu      sync.Mutex // guards what follows
	byName  map[flightName]*flight
	running sync.WaitGroup // Add happens under mu
}

// A flightName is a token and the life of the cache: who asks after an eviction
// must not share an answer from before it.
type flightName struct {
	key  cacheKey
	life int64
}

// A flight is one question under way. Its answer is there once done is closed.
type flight struct {
	done     chan struct{}
	identity push.Identity
	err      error
}

// join returns the flight of name, and starts it with ask if there is none. The
// flight does not end with ctx, but sees its values.
func (f *flights) join(ctx context.Context, name flightName, ask func(context.Context) (push.Identity, error)) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	if under, ok := f.byName[name]; ok {
		return under
	}
	if f.byName == nil {
		f.byName = make(map[flightName]*flight)
	}
	fresh := &flight{done: make(chan struct{})}
	f.byName[name] = fresh
	ctx = context.WithoutCancel(ctx)
	f.running.Go(func() {
		fresh.identity, fresh.err = ask(ctx)
		f.mu.Lock()
		delete(f.byName, name)
		f.mu.Unlock()
		close(fresh.done)
	})
	return fresh
}
