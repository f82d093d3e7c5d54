package batcher

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// double is the work of a test's round trips: twice each number.
func double(_ context.Context, in []int) ([]int, error) {
	out := make([]int, len(in))
	for i, n := range in {
		out[i] = 2 * n
	}
	return out, nil
}

const lanes = 2 // unless a test says otherwise

func testConfig() Config { return Config{MaxItems: 10, MaxWaiting: 20} }

// TestShares holds the lanes while calls gather: they then share a round
// trip as far as its bound allows, and each gets its own outcomes.
func TestShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var sizes []int
		gate := make(chan struct{})
		b := New(testConfig(), func(ctx context.Context, in []int) ([]int, error) {
			mu.Lock()
			sizes = append(sizes, len(in))
			mu.Unlock()
			<-gate
			return double(ctx, in)
		})
		var all sync.WaitGroup
		call := func(items ...int) {
			all.Go(func() {
				got, err := b.Do(t.Context(), items)
				want, _ := double(t.Context(), items)
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("Do(%v) = %v, %v; want %v", items, got, err, want)
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
		b.Close()
	})
}

// TestLargeCall passes a call that is larger than what calls may share.
func TestLargeCall(t *testing.T) {
	b := New(testConfig(), double)
	defer b.Close()
	items := make([]int, 1000)
	if got, err := b.Do(t.Context(), items); err != nil || len(got) != len(items) {
		t.Errorf("a call of %d items: %d outcomes, %v", len(items), len(got), err)
	}
}

func TestOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		b := New(testConfig(), func(ctx context.Context, in []int) ([]int, error) { <-gate; return double(ctx, in) })
		var all sync.WaitGroup
		for range lanes + 2 { // two calls wait, of 10 items each
			all.Go(func() {
				if _, err := b.Do(t.Context(), make([]int, 10)); err != nil {
					t.Errorf("a call within the bound: %v", err)
				}
			})
			synctest.Wait()
		}
		if _, err := b.Do(t.Context(), []int{1}); !errors.Is(err, ErrFull) {
			t.Errorf("a call beyond the bound: %v, want %v", err, ErrFull)
		}
		close(gate)
		all.Wait()
		b.Close()
	})
}

// TestAbandoned lets callers leave: a round trip goes on for those who
// stay, and ends when nobody does.
func TestAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int32
		gate := make(chan struct{})
		b := New(testConfig(), func(ctx context.Context, in []int) ([]int, error) {
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
			if _, err := b.Do(short, []int{1}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a caller whose time is over: %v, want %v", err, context.DeadlineExceeded)
			}
		}
		all.Go(leave) // these have their round trips alone
		synctest.Wait()
		all.Go(leave)
		synctest.Wait()
		all.Go(leave) // this one waits, and shares with the next
		synctest.Wait()
		all.Go(func() {
			if got, err := b.Do(t.Context(), []int{4}); err != nil || got[0] != 8 {
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
		b.Close()
	})
}

// TestNobodyIsServedWhoLeft lets a caller leave while it waits: when its turn
// comes, its items are not done.
func TestNobodyIsServedWhoLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var mu sync.Mutex
		var done []int
		b := New(testConfig(), func(ctx context.Context, in []int) ([]int, error) {
			mu.Lock()
			done = append(done, in...)
			mu.Unlock()
			<-gate
			return double(ctx, in)
		})
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var all sync.WaitGroup
		call := func(ctx context.Context, item int, want error) {
			all.Go(func() {
				if _, err := b.Do(ctx, []int{item}); !errors.Is(err, want) {
					t.Errorf("Do(%d) = %v, want %v", item, err, want)
				}
			})
			synctest.Wait()
		}
		for i := range lanes {
			call(t.Context(), i, nil)
		}
		call(short, 7, context.DeadlineExceeded)
		call(t.Context(), 8, nil)
		call(short, 9, context.DeadlineExceeded)
		time.Sleep(time.Minute)
		close(gate)
		all.Wait()
		b.Close()
		slices.Sort(done)
		if want := []int{0, 1, 8}; !slices.Equal(done, want) {
			t.Errorf("%v were done, want %v", done, want)
		}
	})
}

func TestError(t *testing.T) {
	errWork := errors.New("work")
	b := New(testConfig(), func(context.Context, []int) ([]int, error) { return nil, errWork })
	if _, err := b.Do(t.Context(), []int{1}); !errors.Is(err, errWork) {
		t.Errorf("a failed round trip: %v, want %v", err, errWork)
	}
	b.Close()
	if _, err := b.Do(t.Context(), []int{1}); !errors.Is(err, ErrClosed) {
		t.Errorf("a call of a closed batcher: %v, want %v", err, ErrClosed)
	}
}

// TestPatience holds a round trip for good: what gathers behind it gets a lane
// more after Patience, and no more lanes than MaxLanes.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.Lanes, cfg.MaxLanes, cfg.Patience = 1, 2, 5*time.Millisecond
		gate := make(chan struct{})
		b := New(cfg, func(ctx context.Context, in []int) ([]int, error) {
			if in[0] < 0 {
				<-gate
			}
			return double(ctx, in)
		})
		var all sync.WaitGroup
		call := func(item int, least, most time.Duration) {
			began := time.Now()
			all.Go(func() {
				if got, err := b.Do(t.Context(), []int{item}); err != nil || got[0] != 2*item {
					t.Errorf("Do(%d) = %v, %v", item, got, err)
				}
				if took := time.Since(began); took < least || took > most {
					t.Errorf("Do(%d) took %v, want %v to %v", item, took, least, most)
				}
			})
			synctest.Wait()
		}
		const held = time.Second
		call(-1, held, held)
		call(1, cfg.Patience, cfg.Patience)
		call(2, cfg.Patience, cfg.Patience)
		time.Sleep(2 * cfg.Patience)
		call(-2, held-2*cfg.Patience, held)
		time.Sleep(2 * cfg.Patience)
		call(3, held-4*cfg.Patience, held) // two lanes are held, and there is no third
		time.Sleep(held - 4*cfg.Patience)
		close(gate)
		all.Wait()
		b.Close()
	})
}
