package node

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/telemetry"
)

const (
	streamIdle   = 2 * time.Minute  // a stream that brings nothing for so long ends
	streamLife   = 15 * time.Minute // and one that old, so that a secret taken away ends what it opened
	streamAnswer = 5 * time.Second  // for the other side to take an answer
)

// streams are the open streams of Dispatches. They end with the node.
type streams struct {
	upgrader websocket.Upgrader
	open     prometheus.Gauge
	batches  *prometheus.CounterVec

	running sync.WaitGroup // one for each that is open

	mu    sync.Mutex // guards what follows
	ended bool       // no other is taken in
	all   map[*websocket.Conn]struct{}
}

// How a batch came.
const (
	byStream  = "stream"
	byRequest = "request"
)

func newStreams(prom prometheus.Registerer) *streams {
	f := promauto.With(prom)
	return &streams{
		upgrader: websocket.Upgrader{ReadBufferSize: 64 << 10, WriteBufferSize: 4 << 10,
			CheckOrigin: func(*http.Request) bool { return true }}, // the signature decides
		open: f.NewGauge(prometheus.GaugeOpts{Name: "pushnode_streams", Help: "Open streams of Dispatches."}),
		batches: telemetry.Counters(f, "pushnode_batches_total", "Batches of entries that Dispatch delivered, by how they came: stream, request.",
			"by", byStream, byRequest),
		all: make(map[*websocket.Conn]struct{}),
	}
}

// take runs serve on ws in a goroutine of its own, unless the node has ended.
func (s *streams) take(ws *websocket.Conn, serve func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		ws.Close()
		return
	}
	s.all[ws] = struct{}{}
	s.open.Inc()
	s.running.Go(func() {
		defer s.forget(ws)
		serve()
	})
}

func (s *streams) forget(ws *websocket.Conn) {
	ws.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, ws)
	s.open.Dec()
}

// end closes every stream and waits until nothing of them runs.
func (s *streams) end() {
	s.mu.Lock()
	s.ended = true
	for ws := range s.all {
		ws.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

// streamStatement is what the signature of a stream's handshake must vouch for.
func streamStatement(r *http.Request) []byte {
	return push.StreamStatement(push.NodeID(r.URL.Query().Get("node")))
}

// stream opens a stream for a Dispatch whose signature was checked: see
// [push.StreamPath].
func (n *Node) stream(w http.ResponseWriter, r *http.Request) {
	if node := push.NodeID(r.URL.Query().Get("node")); node != n.cfg.ID {
		serve.Problem(w, r, push.NewProblem(push.CodeOtherNode, "this is node %s", n.cfg.ID))
		return
	}
	ws, err := n.streams.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	n.streams.take(ws, func() {
		err := n.serveStream(ws)
		n.log.Debug("stream ended", "why", err)
	})
}

// serveStream takes the batches of a stream, in order, and answers each, until
// the stream ends. It never returns nil.
func (n *Node) serveStream(ws *websocket.Conn) error {
	ws.SetReadLimit(push.MaxStreamFrame)
	began := time.Now()
	var (
		req           push.DeliverRequest
		frame, answer []byte
	)
	for {
		_ = ws.SetReadDeadline(time.Now().Add(streamIdle)) // the next read tells if it is closed
		var err error
		if frame, err = readFrame(ws, frame); err != nil {
			return err
		}
		answer = answer[:0]
		for rest := frame; len(rest) > 0; {
			var part []byte
			if part, rest, err = push.NextPart(rest); err != nil {
				return err
			}
			number, err := push.DecodeBatch(part, &req)
			if err != nil {
				return err
			}
			n.streams.batches.WithLabelValues(byStream).Inc()
			a := push.BatchAnswer{Number: number}
			var p *push.Problem
			if a.Unknown, p = n.take(&req); p != nil { // which keeps nothing of it
				a.Code, a.Detail = p.Code, p.Detail
			}
			answer = push.AppendBatchAnswer(answer, &a)
		}
		_ = ws.SetWriteDeadline(time.Now().Add(streamAnswer)) // as above
		if err := ws.WriteMessage(websocket.BinaryMessage, answer); err != nil {
			return err
		}
		if time.Since(began) > streamLife {
			return errors.New("old enough")
		}
		if cap(frame) > maxKeptBatch {
			frame, req = nil, push.DeliverRequest{}
		}
	}
}

var errNotBinary = errors.New("a frame that is not binary")

// maxKeptBatch is the largest memory of a frame that a stream keeps for the next.
const maxKeptBatch = 256 << 10

// readFrame reads one binary frame into the memory of frame, as far as that does.
func readFrame(ws *websocket.Conn, frame []byte) ([]byte, error) {
	kind, r, err := ws.NextReader()
	if err != nil {
		return nil, err
	}
	if kind != websocket.BinaryMessage {
		return nil, errNotBinary
	}
	if cap(frame) == 0 {
		frame = make([]byte, 0, 4<<10)
	}
	frame = frame[:0]
	for {
		n, err := r.Read(frame[len(frame):cap(frame)])
		frame = frame[:len(frame)+n]
		if errors.Is(err, io.EOF) {
			return frame, nil
		}
		if err != nil {
			return nil, err
		}
		if len(frame) == cap(frame) {
			frame = append(frame, 0)[:len(frame)]
		}
	}
}
