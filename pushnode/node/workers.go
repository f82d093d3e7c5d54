package node

import (
	"sync"
	"time"
)

const (
	maxIdleWorkers = 256                    // beyond them who has nothing to do ends
	idleWorkerTime = 100 * time.Millisecond // after which, or twice that, who has nothing to do ends
)

// Workers are goroutines for what is done for a connection off its event loop:
// an answer to a handshake, a command. A goroutine of its own for each of them
// begins with a stack of a few KiB, and moving that to larger ones while it works
// costs more than most commands do. A worker that has nothing to do waits a while
// for the next task.
//
// There is no bound on how many work: each task has one at once, because others
// may be waiting for what it does. Nothing may be done forever.
type workers struct {
	running *sync.WaitGroup // has them all

	mu    sync.Mutex // guards what follows
	idle  []*worker  // whoever worked last at the end
	ended bool       // nobody waits any more
	turn  int        // how often those who waited too long were ended
	tidy  *time.Timer
}

type worker struct {
	tasks chan func() // of one; closed for it to end
	since int         // the turn in which it began to wait
}

// do has a worker run f, at once.
func (ws *workers) do(f func()) {
	ws.mu.Lock()
	last := len(ws.idle) - 1
	if last < 0 {
		ws.mu.Unlock()
		ws.running.Go(func() { ws.work(f) })
		return
	}
	w := ws.idle[last]
	ws.idle[last] = nil
	ws.idle = ws.idle[:last]
	ws.mu.Unlock()
	w.tasks <- f // it takes one at a time, so there is room
}

// work runs f, and then what it is given.
func (ws *workers) work(f func()) {
	w := &worker{tasks: make(chan func(), 1)}
	for f != nil {
		growStack()
		f()
		f = nil
		if !ws.rest(w) {
			return
		}
		f = <-w.tasks
	}
}

// rest puts w among those who wait, and reports whether it is to.
func (ws *workers) rest(w *worker) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.ended || len(ws.idle) >= maxIdleWorkers {
		return false
	}
	w.since = ws.turn
	ws.idle = append(ws.idle, w)
	if ws.tidy == nil {
		ws.tidy = time.AfterFunc(idleWorkerTime, ws.endIdle)
	}
	return true
}

// endIdle ends those who have waited for a whole turn.
func (ws *workers) endIdle() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	late := 0
	for late < len(ws.idle) && ws.idle[late].since < ws.turn {
		close(ws.idle[late].tasks)
		late++
	}
	ws.idle = append(ws.idle[:0:0], ws.idle[late:]...)
	ws.turn++
	ws.tidy = nil
	if len(ws.idle) > 0 {
		ws.tidy = time.AfterFunc(idleWorkerTime, ws.endIdle)
	}
}

// end ends those who wait. Who works ends when it has done so, and so does who
// begins later.
func (ws *workers) end() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.ended = true
	for _, w := range ws.idle {
		close(w.tasks)
	}
	ws.idle = nil
	if ws.tidy != nil {
		ws.tidy.Stop()
	}
}

// stackBytes is about what a command needs of its goroutine's stack.
const stackBytes = 12 << 10

// growStack makes room for a command on the stack, in one step and while there
// is next to nothing on it to be moved. It does next to nothing where there is
// room: the collector takes it from who waits.
//
//go:noinline
func growStack() byte {
	var room [stackBytes]byte
	return room[len(room)/2]
}
