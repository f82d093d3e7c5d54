package mongostore

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pushcluster/shared/store"
)

// double is the work of a test's round trips: twice each number.
func double(_ context.Context, in []int) ([]int, error) {
	out := make([]int, len(in))
	for i, n := range in {
		out[i] = 2 * n
	}
	return out, nil
}

func testConfig() Config { return Config{MaxBatch: 10, MaxWaiting: 20} }

// TestBatcherShares holds the lanes while calls gather: they then share a round
// trip as far as its bound allows, and each gets its own outcomes.
func TestBatcherShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var sizes []int
		gate := make(chan struct{})
		b := newBatcher(testConfig(), func(ctx context.Context, in []int) ([]int, error) {
			mu.Lock()
			sizes = append(sizes, len(in))
			mu.Unlock()
			<-gate
			return double(ctx, in)
		})
		var all sync.WaitGroup
		call := func(items ...int) {
			all.Go(func() {
				got, err := b.do(t.Context(), items)
				want, _ := double(t.Context(), items)
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("do(%v) = %v, %v; want %v", items, got, err, want)
				}
			})
			synctest.Wait()
		}
		for i := range lanes {
			call(i) // each goes at once, in a lane of its own
		}
		for i := range 4 {
			call(10*i, 10*i+1, 10*i+2) // gather: three fit in one round trip, the fourth does not
		}
		close(gate)
		all.Wait()
		slices.Sort(sizes)
		if want := []int{1, 1, 3, 9}; !slices.Equal(sizes, want) {
			t.Errorf("round trips of %v items, want %v", sizes, want)
		}
		b.close()
	})
}

// TestBatcherLargeCall passes a call that is larger than what calls may share.
func TestBatcherLargeCall(t *testing.T) {
	b := newBatcher(testConfig(), double)
	defer b.close()
	items := make([]int, 1000)
	if got, err := b.do(t.Context(), items); err != nil || len(got) != len(items) {
		t.Errorf("a call of %d items: %d outcomes, %v", len(items), len(got), err)
	}
}

func TestBatcherOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		b := newBatcher(testConfig(), func(ctx context.Context, in []int) ([]int, error) { <-gate; return double(ctx, in) })
		var all sync.WaitGroup
		for range lanes + 2 { // two calls wait, of 10 items each
			all.Go(func() {
				if _, err := b.do(t.Context(), make([]int, 10)); err != nil {
					t.Errorf("a call within the bound: %v", err)
				}
			})
			synctest.Wait()
		}
		if _, err := b.do(t.Context(), []int{1}); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a call beyond the bound: %v, want %v", err, store.ErrUnavailable)
		}
		close(gate)
		all.Wait()
		b.close()
	})
}

// TestBatcherAbandoned lets callers leave: a round trip goes on for those who
// stay, and ends when nobody does.
func TestBatcherAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int32
		gate := make(chan struct{})
		b := newBatcher(testConfig(), func(ctx context.Context, in []int) ([]int, error) {
			select {
			case <-gate:
				return double(ctx, in)
			case <-ctx.Done():
				ended.Add(1)
				return nil, ctx.Err()
			}
		})
		var all sync.WaitGroup
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		leave := func() {
			if _, err := b.do(short, []int{1}); !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a caller whose time is over: %v, want %v", err, store.ErrUnavailable)
			}
		}
		all.Go(leave) // these have their round trips alone
		synctest.Wait()
		all.Go(leave)
		synctest.Wait()
		all.Go(leave) // this one waits, and shares with the next
		synctest.Wait()
		all.Go(func() {
			if got, err := b.do(t.Context(), []int{4}); err != nil || got[0] != 8 {
				t.Errorf("the caller who stays: %v, %v; want 8", got, err)
			}
		})
		<-short.Done()
		synctest.Wait()
		if ended.Load() != lanes {
			t.Errorf("%d round trips ended with their callers, want %d", ended.Load(), lanes)
		}
		close(gate)
		all.Wait()
		b.close()
	})
}

func TestBatcherError(t *testing.T) {
	errWork := errors.New("work")
	b := newBatcher(testConfig(), func(context.Context, []int) ([]int, error) { return nil, errWork })
	if _, err := b.do(t.Context(), []int{1}); !errors.Is(err, errWork) {
		t.Errorf("a failed round trip: %v, want %v", err, errWork)
	}
	b.close()
	if _, err := b.do(t.Context(), []int{1}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a call of a closed batcher: %v, want %v", err, store.ErrUnavailable)
	}
}
