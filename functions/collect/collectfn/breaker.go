package collectfn

import (
	"sync"
	"time"
)

// breakTime is how long Dispatch is not asked after it did not answer.
const breakTime = time.Second

// A breaker keeps posts from waiting, one like the other, for a Dispatch that
// does not answer: their messages go into the outbox at once. A hand-off whose end
// tells nothing of Dispatch need not be noted: after breakTime another one tries.
type breaker struct {
	mu    sync.Mutex // guards what follows
	until time.Time  // no hand-off before that; zero while Dispatch answers
}

// admits reports whether to hand off at now. When a break is over, one tries; the
// others wait for what comes of it, or for another break to be over.
func (b *breaker) admits(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Before(b.until) {
		return false
	}
	if !b.until.IsZero() {
		b.until = now.Add(breakTime)
	}
	return true
}

// note takes the outcome of a hand-off: whether it came to no answer.
func (b *breaker) note(now time.Time, broken bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until = time.Time{}
	if broken {
		b.until = now.Add(breakTime)
	}
}
