package node

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
	"pushcluster/shared/telemetry"
)

// cursorPace is how long cursors gather before they are written: their cost
// grows with the devices that are active, not with the messages they get.
const cursorPace = 200 * time.Millisecond

// maxCursors bounds the cursors that wait for a store that is away; beyond it
// new ones are left to the next pong.
const maxCursors = 200_000

// A cursorWriter gathers how far devices have come and writes it in batches. Make
// one with newCursorWriter.
type cursorWriter struct {
	store   store.Cursors
	log     *slog.Logger
	metrics *metrics
	writes  telemetry.Lapse // of cursors, for the log
	touches telemetry.Lapse // likewise

	writing sync.RWMutex // held while cursors are written, and, shared, while some are removed; taken before mu

	mu      sync.Mutex // guards what follows
	pending map[cursorKey]store.Cursor
	spared  []store.Spared
	touched []store.Cursor
}

func newCursorWriter(st store.Cursors, log *slog.Logger, m *metrics) *cursorWriter {
	return &cursorWriter{
		store: st, log: log, metrics: m,
		writes: telemetry.Lapse{What: "write of cursors"}, touches: telemetry.Lapse{What: "touch of cursors"},
	}
}

type cursorKey struct {
	user    push.UserID
	device  push.Device
	channel push.Channel
}

func keyOf(c store.Cursor) cursorKey { return cursorKey{c.User, c.Device, c.Channel} }

// advance notes that a device has come as far as cur says, and reports whether
// there was room for that. It never blocks.
func (w *cursorWriter) advance(cur store.Cursor) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	old, ok := w.pending[keyOf(cur)]
	if !ok && len(w.pending) >= maxCursors {
		w.metrics.dropped.WithLabelValues("cursor").Inc()
		return false
	}
	if w.pending == nil {
		w.pending = make(map[cursorKey]store.Cursor)
	}
	cur.Received = max(cur.Received, old.Received)
	cur.Acknowledged = max(cur.Acknowledged, old.Acknowledged)
	w.pending[keyOf(cur)] = cur
	return true
}

// spare notes that a device was not given something that its cursor will pass.
// It is written before any cursor that is noted later. It never blocks.
func (w *cursorWriter) spare(s store.Spared) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.spared) >= maxCursors {
		w.metrics.dropped.WithLabelValues("spared").Inc()
		return
	}
	w.spared = append(w.spared, s)
}

// touch notes that the device of cur is there. It never blocks, and where nothing
// but this is known of a cursor that is gone, it stays so.
func (w *cursorWriter) touch(cur store.Cursor) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.touched) >= maxCursors {
		w.metrics.dropped.WithLabelValues("touch").Inc()
		return
	}
	w.touched = append(w.touched, cur)
}

// remove forgets how far a device has come in channels, in what waits and in the
// store, behind any write that is under way.
func (w *cursorWriter) remove(ctx context.Context, user push.UserID, device push.Device, channels ...push.Channel) error {
	w.writing.RLock()
	defer w.writing.RUnlock()
	w.mu.Lock()
	for _, channel := range channels {
		delete(w.pending, cursorKey{user, device, channel})
	}
	w.mu.Unlock()
	return w.store.RemoveCursors(ctx, user, device, channels)
}

// run writes what gathers until ctx ends.
func (w *cursorWriter) run(ctx context.Context) error {
	t := time.NewTicker(cursorPace)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			w.flush(ctx)
		}
	}
}

// flush writes what has gathered, exceptions before the cursors that pass them.
// What could not be written waits on.
func (w *cursorWriter) flush(ctx context.Context) {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.mu.Lock()
	spared := w.spared
	w.spared = nil
	batch := make([]store.Cursor, 0, len(w.pending))
	for _, cur := range w.pending {
		batch = append(batch, cur)
	}
	w.pending = nil
	w.mu.Unlock()
	if len(spared) > 0 {
		if err := w.store.Spare(ctx, spared); err != nil {
			w.putBack(err, batch, spared)
			return
		}
	}
	if len(batch) > 0 {
		if err := w.store.AdvanceCursors(ctx, batch); err != nil {
			w.putBack(err, batch, nil)
			return
		}
		w.writes.Note(w.log, nil)
		w.metrics.cursorsWritten.Add(float64(len(batch)))
	}
	w.flushTouched(ctx)
}

// flushTouched writes which devices are there. What could not be written waits on.
func (w *cursorWriter) flushTouched(ctx context.Context) {
	w.mu.Lock()
	touched := w.touched
	w.touched = nil
	w.mu.Unlock()
	if len(touched) == 0 {
		return
	}
	if err := w.store.TouchCursors(ctx, touched); err != nil {
		w.metrics.cursorFailures.Inc()
		w.touches.Note(w.log, err)
		for _, cur := range touched {
			w.touch(cur)
		}
		return
	}
	w.touches.Note(w.log, nil)
	w.metrics.cursorsTouched.Add(float64(len(touched)))
}

func (w *cursorWriter) putBack(why error, batch []store.Cursor, spared []store.Spared) {
	w.metrics.cursorFailures.Inc()
	w.writes.Note(w.log, why)
	for _, cur := range batch {
		w.advance(cur)
	}
	for _, s := range spared {
		w.spare(s)
	}
}

// loadCursors returns the cursors of each of devices that has any.
func (n *Node) loadCursors(ctx context.Context, devices []store.UserDevice) (map[store.UserDevice][]store.Cursor, error) {
	list, err := n.store.LoadCursors(ctx, devices)
	byDevice := make(map[store.UserDevice][]store.Cursor, len(devices))
	for _, c := range list {
		d := store.UserDevice{User: c.User, Device: c.Device}
		byDevice[d] = append(byDevice[d], c)
	}
	return byDevice, err
}
