package dispatchfn

import "sync"

// running counts what runs, to wait for. Other than a sync.WaitGroup it lets
// something begin while somebody waits.
type running struct {
	mu   sync.Mutex // guards what follows
	n    int
	none chan struct{} // closed when n falls to 0; nil: nobody waits
}

func (r *running) add() {
	r.mu.Lock()
	r.n++
	r.mu.Unlock()
}

func (r *running) done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n--; r.n == 0 && r.none != nil {
		close(r.none)
		r.none = nil
	}
}

// run has f run in a goroutine, and counts it.
func (r *running) run(f func()) {
	r.add()
	go func() {
		defer r.done()
		f()
	}()
}

// wait returns when nothing runs.
func (r *running) wait() {
	r.mu.Lock()
	if r.n == 0 {
		r.mu.Unlock()
		return
	}
	if r.none == nil {
		r.none = make(chan struct{})
	}
	none := r.none
	r.mu.Unlock()
	<-none
}
