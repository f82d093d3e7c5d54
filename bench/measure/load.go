//go:build linux

package measure

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"pushcluster/bench/histogram"
	"pushcluster/bench/target"
)

// flood publishes as fast as it is let, for the span, with that many requests
// under way and batch messages in each, and waits until all messages have
// arrived. It reports how many there were and how long it took until the last.
func (r *Rig) flood(ctx context.Context, p target.Publisher, parallel, batch int) (messages int64, took time.Duration, err error) {
	r.swarm.Reset()
	var mu sync.Mutex
	var sent atomic.Int64
	begin := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for range parallel {
		g.Go(func() error {
			for time.Since(begin) < r.cfg.Span {
				mu.Lock()
				users := r.users(batch)
				mu.Unlock()
				if err := publish(gctx, p, time.Now(), users); err != nil {
					return err
				}
				sent.Add(int64(batch))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, 0, err
	}
	last, err := r.swarm.Await(ctx, sent.Load())
	return sent.Load(), last.Sub(begin), err
}

func publish(ctx context.Context, p target.Publisher, at time.Time, users []int) error {
	if len(users) == 1 {
		return p.One(ctx, at, users[0])
	}
	return p.Many(ctx, at, users)
}

// pace publishes at a steady rate of messages a second for the span, batch
// messages in a request, whether or not earlier requests have been answered, up
// to parallel of them. A message counts from when it was due. It returns how
// long messages took.
func (r *Rig) pace(ctx context.Context, p target.Publisher, rate float64, parallel, batch int) (*histogram.Histogram, error) {
	r.swarm.Reset()
	every := time.Duration(float64(batch) / rate * float64(time.Second))
	total := max(1, int(r.cfg.Span/every))
	due := make(chan time.Time, total) // a request that waits for its turn waits here
	g, gctx := errgroup.WithContext(ctx)
	var mu sync.Mutex
	for range parallel {
		g.Go(func() error {
			for at := range due {
				mu.Lock()
				users := r.users(batch)
				mu.Unlock()
				if err := publish(gctx, p, at, users); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(due)
		metronome(gctx, every, total, due)
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if _, err := r.swarm.Await(ctx, int64(total*batch)); err != nil {
		return nil, err
	}
	return r.swarm.Took(), nil
}

// metronome sends total beats to due, each as soon as it is due. It has a thread
// to itself, because the runtime's timers are no finer than a millisecond on a
// machine with nothing else to do.
func metronome(ctx context.Context, every time.Duration, total int, due chan<- time.Time) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // else beats come 50 µs late
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }()
	begin := time.Now()
	for i := range total {
		at := begin.Add(time.Duration(i) * every)
		for wait := time.Until(at); wait > 0; wait = time.Until(at) {
			ts := unix.NsecToTimespec(int64(wait))
			_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &ts, nil) // woken early, it sleeps again
		}
		if ctx.Err() != nil {
			return
		}
		due <- at
	}
}
