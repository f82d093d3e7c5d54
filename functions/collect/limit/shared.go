package limit

import (
	"context"
	"errors"
	"sync"
	"time"

	"pushcluster/shared/registry"
)

// ErrAway means that a request could not be judged, and may pass.
var ErrAway = errors.New("limits cannot be judged now")

// pause is how long Redis is not asked after it has failed to answer: no request
// is to wait for a Redis that is away but one a second.
const pause = time.Second

// A Taker judges one request of a subject; registry.Limiter is one.
type Taker interface {
	Take(ctx context.Context, subject string, rates []registry.Rate) (registry.Verdict, error)
}

// A Shared judges by what all processes share, and gives up quickly while that
// is away. It may be used by several goroutines.
type Shared struct {
	taker Taker
	now   func() time.Time

	mu    sync.Mutex // guards what follows
	until time.Time  // before it taker is not asked
}

// NewShared returns a judge that asks taker. A nil now is time.Now.
func NewShared(taker Taker, now func() time.Time) *Shared {
	if now == nil {
		now = time.Now
	}
	return &Shared{taker: taker, now: now}
}

// Take judges one request. Its error is [ErrAway], or wraps why taker gave none.
func (s *Shared) Take(ctx context.Context, subject string, rates []registry.Rate) (registry.Verdict, error) {
	s.mu.Lock()
	paused := s.now().Before(s.until)
	s.mu.Unlock()
	if paused {
		return registry.Verdict{Passes: true}, ErrAway
	}
	v, err := s.taker.Take(ctx, subject, rates)
	if err == nil {
		return v, nil
	}
	if ctx.Err() == nil { // else it is the client that is away
		s.mu.Lock()
		s.until = s.now().Add(pause)
		s.mu.Unlock()
	}
	return registry.Verdict{Passes: true}, err
}
