package node

import (
	"context"
	"sync"
	"time"
)

// An evictionWatch tells whether Redis evicted keys lately. It asks Redis, once
// for all who ask at the same time.
type evictionWatch struct {
	ask    func(context.Context) (int64, error) // how many keys Redis has evicted so far
	window time.Duration                        // what counts as lately

	mu      sync.Mutex // guards what follows, and is held while Redis is asked
	began   time.Time  // when the last question began
	known   bool
	keys    int64
	changed time.Time // when an answer was last another than the one before
}

// lately reports whether Redis may have evicted keys within the window before
// the call. An error means that it cannot be asked.
func (w *evictionWatch) lately(ctx context.Context) (bool, error) {
	_, err := w.look(ctx)
	if err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.changed) < w.window, nil
}

// look asks Redis, unless somebody did since the call, and returns how many keys
// it has evicted so far.
func (w *evictionWatch) look(ctx context.Context) (int64, error) {
	since := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known && w.began.After(since) {
		return w.keys, nil
	}
	began := time.Now()
	keys, err := w.ask(ctx)
	if err != nil {
		return 0, err
	}
	// At the first look nobody knows when the keys went that are gone.
	if w.known && keys != w.keys || !w.known && keys != 0 {
		w.changed = time.Now()
	}
	w.began, w.known, w.keys = began, true, keys
	return keys, nil
}
