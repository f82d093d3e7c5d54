package node

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// idleWorkers returns how many wait.
func (ws *workers) idleWorkers() int {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return len(ws.idle)
}

// TestWorkers goes through the life of workers: they are used again, wait in
// bounded number and for a bounded time, and end when they are told to.
func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all sync.WaitGroup
		ws := &workers{running: &all}
		var done atomic.Int32
		count := func() { done.Add(1) }
		for range 100 {
			ws.do(count)
			synctest.Wait()
		}
		if n := ws.idleWorkers(); n != 1 || done.Load() != 100 {
			t.Errorf("after %d tasks, one after another, %d workers wait, want 1", done.Load(), n)
		}
		hold := make(chan struct{})
		for range 2 * maxIdleWorkers {
			ws.do(func() { <-hold; count() })
		}
		ws.do(count) // one that is not held up by the others
		synctest.Wait()
		if n := done.Load(); n != 101 {
			t.Errorf("%d tasks are done while all workers are held, want 101", n)
		}
		close(hold)
		synctest.Wait()
		if n := ws.idleWorkers(); n != maxIdleWorkers {
			t.Errorf("%d workers wait, want %d", n, maxIdleWorkers)
		}
		// Who is used does not end, the others do.
		for range 8 {
			time.Sleep(idleWorkerTime / 2)
			ws.do(count)
			synctest.Wait()
		}
		if n := ws.idleWorkers(); n != 1 {
			t.Errorf("%d workers wait for one task at a time, want 1", n)
		}
		time.Sleep(3 * idleWorkerTime)
		synctest.Wait()
		if n := ws.idleWorkers(); n != 0 {
			t.Errorf("%d workers wait for nothing, want 0", n)
		}
		begun := make(chan struct{})
		hold = make(chan struct{})
		ws.do(count)
		ws.do(func() { close(begun); <-hold; ws.do(count) })
		<-begun
		ws.end()
		close(hold)
		all.Wait()
		if want := int32(101 + 2*maxIdleWorkers + 8 + 2); done.Load() != want || ws.idleWorkers() != 0 {
			t.Errorf("%d tasks are done, want %d; %d workers wait", done.Load(), want, ws.idleWorkers())
		}
	})
}

// deep uses about as much stack as a command, in as many calls.
//
//go:noinline
func deep(n int) int {
	var frame [400]byte
	if n == 0 {
		return int(frame[7])
	}
	return deep(n-1) + int(frame[n])
}

// BenchmarkWorkers has a task done by a worker and by a goroutine of its own.
func BenchmarkWorkers(b *testing.B) {
	run := func(b *testing.B, do func(func())) {
		var done sync.WaitGroup
		b.ReportAllocs()
		for b.Loop() {
			done.Add(1)
			do(func() { deep(20); done.Done() })
			done.Wait()
		}
	}
	b.Run("goroutine", func(b *testing.B) { run(b, func(f func()) { go f() }) })
	b.Run("worker", func(b *testing.B) {
		var all sync.WaitGroup
		ws := &workers{running: &all}
		run(b, ws.do)
		ws.end()
		all.Wait()
	})
}
