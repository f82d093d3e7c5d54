package nodeclient

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"pushcluster/shared/push"
)

const (
	maxWaiting  = 4 << 20          // bytes of batches that wait for a stream's writer; more go as requests
	idleStream  = time.Minute      // a stream that was not used for so long is closed; nodes wait longer
	idleSlack   = 10 * time.Second // how much longer its reader waits, for the last answer
	streamPause = 2 * time.Second  // how long batches go as requests to a node that has no stream to offer
	writeTime   = time.Second      // for the other side to take what is written
)

var (
	// errNoStream means that the batch is to go as a request: there is no stream,
	// or it ended before the answer. The node may have taken the batch.
	errNoStream = errors.New("no stream")
	errClosed   = errors.New("the client is closed")
)

// A stream is one WebSocket to one node. Batches are numbered and answered in
// order, and as many as there are callers may be under way. Who finds nobody
// writing writes at once; what comes meanwhile waits for the writer, which puts
// all of it in one frame.
type stream struct {
	ws      *websocket.Conn
	metrics *metrics
	wake    chan struct{} // tells the writer that something waits
	gone    chan struct{} // closed when the stream has broken

	mu      sync.Mutex // guards what follows
	writing bool       // somebody owns the writing side
	waiting []byte     // encoded batches
	spare   []byte     // the memory of what was written last
	number  uint64     // of the last batch
	calls   map[uint64]chan push.BatchAnswer
	broken  bool
	used    time.Time // when the last batch was given to it
}

// send has the node take req and returns its answer. [errNoStream] means that
// the stream cannot say whether it did.
func (s *stream) send(ctx context.Context, req *push.DeliverRequest) (push.BatchAnswer, error) {
	done := make(chan push.BatchAnswer, 1)
	s.mu.Lock()
	if s.broken || len(s.waiting) > maxWaiting {
		s.mu.Unlock()
		return push.BatchAnswer{}, errNoStream
	}
	s.number++
	number := s.number
	before := len(s.waiting)
	s.waiting = push.AppendBatch(s.waiting, number, req)
	if len(s.waiting) > push.MaxStreamFrame {
		s.waiting = s.waiting[:before]
		s.mu.Unlock()
		return push.BatchAnswer{}, errNoStream
	}
	s.calls[number] = done
	s.used = time.Now()
	mine := !s.writing
	s.writing = true
	s.mu.Unlock()
	if mine {
		runtime.Gosched() // whoever is ready to send may come along
		s.write()
	}
	select {
	case a := <-done:
		return a, nil
	case <-s.gone:
		select {
		case a := <-done: // it came before the end
			return a, nil
		default:
			return push.BatchAnswer{}, errNoStream
		}
	case <-ctx.Done():
	}
	s.mu.Lock()
	delete(s.calls, number)
	s.mu.Unlock()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		s.metrics.streams.WithLabelValues(streamLate).Inc()
		s.end() // the way to the node may be dead; whoever is next finds out with a new one
	}
	return push.BatchAnswer{}, fmt.Errorf("%w: %w", ErrTimeout, ctx.Err())
}

// write writes what waits, as one frame, and gives the writing side up, to the
// writer where more came meanwhile. The caller owns the writing side.
func (s *stream) write() {
	s.mu.Lock()
	frame := s.waiting
	s.waiting, s.spare = s.spare[:0], nil
	s.mu.Unlock()
	_ = s.ws.SetWriteDeadline(time.Now().Add(writeTime)) // the write tells if it is closed
	if err := s.ws.WriteMessage(websocket.BinaryMessage, frame); err != nil {
		s.end()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if cap(frame) <= maxWaiting {
		s.spare = frame
	}
	if len(s.waiting) == 0 {
		s.writing = false
		return
	}
	s.wake <- struct{}{} // it has room: there is one writing side
}

// runWriter writes for those who found somebody writing.
func (s *stream) runWriter() {
	for {
		select {
		case <-s.wake:
			s.write()
		case <-s.gone:
			return
		}
	}
}

// runReader hands answers out until the stream breaks.
func (s *stream) runReader() {
	defer s.end()
	s.ws.SetReadLimit(push.MaxStreamFrame)
	for {
		_ = s.ws.SetReadDeadline(time.Now().Add(idleStream + idleSlack)) // as above
		kind, frame, err := s.ws.ReadMessage()
		if err != nil || kind != websocket.BinaryMessage {
			return
		}
		for len(frame) > 0 {
			var part []byte
			if part, frame, err = push.NextPart(frame); err != nil {
				return
			}
			a, err := push.DecodeBatchAnswer(part)
			if err != nil {
				return
			}
			s.mu.Lock()
			done := s.calls[a.Number]
			delete(s.calls, a.Number)
			s.mu.Unlock()
			if done != nil {
				done <- a
			}
		}
	}
}

// end breaks the stream. Calls under way find that out.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.broken {
		s.broken = true
		if len(s.calls) > 0 {
			s.metrics.streams.WithLabelValues(streamBroken).Inc()
		}
		s.ws.Close()
		close(s.gone)
	}
}

// usable reports whether a batch may be given to the stream at now.
func (s *stream) usable(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.broken && (len(s.calls) > 0 || now.Sub(s.used) < idleStream)
}

// streams are the streams of a client, one for each node.
type streams struct {
	dial    func(ctx context.Context, node push.NodeID) (*websocket.Conn, error)
	metrics *metrics

	running sync.WaitGroup // what reads and writes

	mu     sync.Mutex // guards what follows
	closed bool
	byNode map[push.NodeID]*dialed
}

// A dialed is the stream of one node, or the try to open it. What follows done
// is written before that is closed.
type dialed struct {
	done   chan struct{}
	ended  time.Time
	stream *stream
	err    error // why there is none
	left   bool  // who opened it left before it failed
}

// to returns a stream to the node, opening one if there is none. Who comes while
// one is being opened waits for it. [errNoStream] means that the node has none to
// offer.
func (s *streams) to(ctx context.Context, node push.NodeID) (*stream, error) {
	began := time.Now()
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, errNoStream
		}
		d := s.byNode[node]
		if d == nil {
			s.forgetOld()
			d = &dialed{done: make(chan struct{})}
			s.byNode[node] = d
			s.mu.Unlock()
			s.open(ctx, node, d)
			return d.stream, d.err
		}
		s.mu.Unlock()
		select {
		case <-d.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrTimeout, ctx.Err())
		}
		if d.answers(began) {
			return d.stream, d.err
		}
		s.forget(node, d)
	}
}

// answers reports whether the outcome of d holds for a call that began at began:
// a stream that is usable, a node that has none to offer, or a failure that the
// call has waited for.
func (d *dialed) answers(began time.Time) bool {
	switch {
	case d.err == nil:
		return d.stream.usable(time.Now())
	case errors.Is(d.err, errNoStream):
		return time.Since(d.ended) < streamPause
	}
	return d.ended.After(began) && !d.left
}

// forget drops d, unless another came in its place.
func (s *streams) forget(node push.NodeID, d *dialed) {
	if d.stream != nil {
		d.stream.end()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byNode[node] == d {
		delete(s.byNode, node)
	}
}

// forgetOld drops what is left of streams that have broken: of nodes that are
// gone. s.mu is held.
func (s *streams) forgetOld() {
	now := time.Now()
	for node, d := range s.byNode {
		select {
		case <-d.done:
			if d.err == nil && !d.stream.usable(now) {
				d.stream.end()
				delete(s.byNode, node)
			} else if d.err != nil && now.Sub(d.ended) > streamPause {
				delete(s.byNode, node)
			}
		default: // it is being opened
		}
	}
}

// open opens a stream for d.
func (s *streams) open(ctx context.Context, node push.NodeID, d *dialed) {
	defer close(d.done)
	ws, err := s.dial(ctx, node)
	d.ended = time.Now()
	if err != nil {
		d.err, d.left = err, ctx.Err() != nil
		event := streamFailed
		if errors.Is(err, errNoStream) {
			event = streamRefused
		}
		s.metrics.streams.WithLabelValues(event).Inc()
		return
	}
	st := &stream{ws: ws, metrics: s.metrics, wake: make(chan struct{}, 1), gone: make(chan struct{}),
		calls: make(map[uint64]chan push.BatchAnswer), used: d.ended}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		ws.Close()
		d.err = fmt.Errorf("%w: %w", errNoStream, errClosed)
		return
	}
	s.running.Go(st.runReader)
	s.running.Go(st.runWriter)
	d.stream = st
	s.metrics.streams.WithLabelValues(streamOpened).Inc()
}

// close ends every stream and waits until nothing of them runs.
func (s *streams) close() {
	s.mu.Lock()
	s.closed = true
	var all []*stream
	for _, d := range s.byNode {
		select {
		case <-d.done:
			if d.stream != nil {
				all = append(all, d.stream)
			}
		default: // who opens it finds that all is closed
		}
	}
	s.mu.Unlock()
	for _, st := range all {
		st.end()
	}
	s.running.Wait()
}
