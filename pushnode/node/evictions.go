package node

import (
	"context"
	"time"
)

// An evictionWatch tells whether Redis evicted keys lately. It asks Redis, once
// for all who ask at the same time.
type evictionWatch struct {
	ask    func(context.Context) (int64, error) // how many keys Redis has evicted so far
	window time.Duration                        // what counts as lately

	turn chan struct{} // holds a token: the right to ask and to change what follows

	began   time.Time // when the last question began
	known   bool
	keys    int64
	changed time.Time // when an answer was last another than the one before
}

func newEvictionWatch(ask func(context.Context) (int64, error), window time.Duration) *evictionWatch {
	w := &evictionWatch{ask: ask, window: window, turn: make(chan struct{}, 1)}
	w.turn <- struct{}{}
	return w
}

// lately reports whether Redis may have evicted keys within the window before
// the call. An error means that it cannot be asked.
func (w *evictionWatch) lately(ctx context.Context) (bool, error) {
	_, changed, err := w.look(ctx)
	return time.Since(changed) < w.window, err
}

// look asks Redis, unless somebody did since the call, and returns how many keys
// it has evicted so far and when that number was last found to have changed.
func (w *evictionWatch) look(ctx context.Context) (keys int64, changed time.Time, err error) {
	since := time.Now()
	select {
	case <-w.turn:
		defer func() { w.turn <- struct{}{} }()
	case <-ctx.Done():
		return 0, time.Time{}, ctx.Err()
	}
	if w.known && w.began.After(since) {
		return w.keys, w.changed, nil
	}
	began := time.Now()
	if keys, err = w.ask(ctx); err != nil {
		return 0, time.Time{}, err
	}
	// At the first look nobody knows when the keys went that are gone.
	if w.known && keys != w.keys || !w.known && keys != 0 {
		w.changed = time.Now()
	}
	w.began, w.known, w.keys = began, true, keys
	return keys, w.changed, nil
}
