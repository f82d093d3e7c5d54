package nodeclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
)

// A peer is the other side of a stream: it opens streams as a node does and gives
// every batch to take, which returns the answer, or false to break the stream.
// What comes as a request goes to deliver.
type peer struct {
	id       push.NodeID
	take     func(number uint64, req *push.DeliverRequest) (push.BatchAnswer, bool)
	opened   atomic.Int32
	requests atomic.Int32
	frames   atomic.Int32
}

func newPeer(t *testing.T, take func(uint64, *push.DeliverRequest) (push.BatchAnswer, bool)) *peer {
	t.Helper()
	p := &peer{take: take}
	v := signature.NewVerifier(signature.VerifierConfig{}, keys(t, secretA))
	var running sync.WaitGroup
	mux := http.NewServeMux()
	mux.Handle("POST /v1/node/deliver", signature.Require(v, 1<<20, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.requests.Add(1)
		serve.JSON(w, 200, push.DeliverAnswer{Node: p.id})
	})))
	statement := func(r *http.Request) []byte { return push.StreamStatement(push.NodeID(r.URL.Query().Get("node"))) }
	mux.Handle("GET "+push.StreamPath, signature.RequireStatement(v, statement, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("node") != string(p.id) {
			serve.Problem(w, r, push.NewProblem(push.CodeOtherNode, "not me"))
			return
		}
		if p.take == nil {
			serve.Problem(w, r, push.NewProblem(push.CodeNotFound, "no streams here"))
			return
		}
		// Counted before the caller hears of the stream: a test may end with what
		// it hears, and the server does not wait for a handler that hijacked.
		running.Add(1)
		defer running.Done()
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			t.Errorf("upgrade: %v", err)
			return
		}
		p.opened.Add(1)
		p.serve(ws)
	})))
	s := httptest.NewServer(mux)
	t.Cleanup(func() {
		s.Close()
		running.Wait()
	})
	p.id = push.NewNodeID(strings.TrimPrefix(s.URL, "http://"), "one")
	return p
}

func (p *peer) serve(ws *websocket.Conn) {
	defer ws.Close()
	for {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			return
		}
		p.frames.Add(1)
		for len(frame) > 0 {
			var part []byte
			if part, frame, err = push.NextPart(frame); err != nil {
				return
			}
			var req push.DeliverRequest
			number, err := push.DecodeBatch(part, &req)
			if err != nil {
				return
			}
			a, ok := p.take(number, &req)
			if !ok {
				return
			}
			if ws.WriteMessage(websocket.BinaryMessage, push.AppendBatchAnswer(nil, &a)) != nil {
				return
			}
		}
	}
}

func echo(number uint64, req *push.DeliverRequest) (push.BatchAnswer, bool) {
	a := push.BatchAnswer{Number: number}
	for _, e := range req.Entries {
		a.Unknown = append(a.Unknown, e.Channel)
	}
	return a, true
}

func to(c push.Channel) push.DeliverRequest {
	return push.DeliverRequest{Messages: []push.Message{{ID: "m", Data: json.RawMessage(`1`)}}, Entries: []push.DeliverEntry{{Channel: c, Offset: 7, Prev: 3}}}
}

func TestStream(t *testing.T) {
	p := newPeer(t, echo)
	c := client(t, secretA)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			want := push.Channel(fmt.Sprint("#", i))
			answer, err := c.Deliver(t.Context(), p.id, to(want))
			if err != nil || answer.Node != p.id || len(answer.Unknown) != 1 || answer.Unknown[0] != want {
				t.Errorf("Deliver to %s = %+v, %v, want its own answer", want, answer, err)
			}
		})
	}
	wg.Wait()
	if p.opened.Load() != 1 || p.requests.Load() != 0 {
		t.Errorf("%d streams were opened, %d requests made, want one stream alone", p.opened.Load(), p.requests.Load())
	}
	if n := p.frames.Load(); n > 200 {
		t.Errorf("200 batches came in %d frames", n)
	}
}

func TestStreamRefusesABatch(t *testing.T) {
	p := newPeer(t, func(number uint64, _ *push.DeliverRequest) (push.BatchAnswer, bool) {
		return push.BatchAnswer{Number: number, Code: push.CodeBadRequest, Detail: "no"}, true
	})
	_, err := client(t, secretA).Deliver(t.Context(), p.id, to("c"))
	problem, ok := errors.AsType[*push.Problem](err)
	if !errors.Is(err, ErrRefused) || !ok || problem.Code != push.CodeBadRequest || problem.Detail != "no" {
		t.Errorf("Deliver: %v, want the problem that the node answered", err)
	}
}

func TestStreamsThatCannotBe(t *testing.T) {
	tests := map[string]struct {
		take     func(uint64, *push.DeliverRequest) (push.BatchAnswer, bool)
		secret   string
		node     func(push.NodeID) push.NodeID // nil: the peer
		want     error
		requests int32
	}{
		"none to offer": {nil, secretA, nil, nil, 1},
		"breaks":        {func(uint64, *push.DeliverRequest) (push.BatchAnswer, bool) { return push.BatchAnswer{}, false }, secretA, nil, nil, 1},
		"wrong secret":  {echo, secretB, nil, ErrRefused, 0},
		"another node":  {echo, secretA, func(id push.NodeID) push.NodeID { return id + "x" }, ErrOtherNode, 0},
		"nobody's number": {func(n uint64, _ *push.DeliverRequest) (push.BatchAnswer, bool) {
			return push.BatchAnswer{Number: n + 1}, false
		}, secretA, nil, nil, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, tt.take)
			node := p.id
			if tt.node != nil {
				node = tt.node(p.id)
			}
			_, err := client(t, tt.secret).Deliver(t.Context(), node, to("c"))
			if !errors.Is(err, tt.want) || p.requests.Load() != tt.requests {
				t.Errorf("Deliver: %v after %d requests, want %v after %d", err, p.requests.Load(), tt.want, tt.requests)
			}
		})
	}
}

// A limit is a context whose deadline passes when the test says so.
type limit struct {
	context.Context
	passed chan struct{}
}

// Done returns what is closed when the deadline passes (context.Context).
func (l limit) Done() <-chan struct{} { return l.passed }

// Err returns why the context has ended (context.Context).
func (l limit) Err() error {
	select {
	case <-l.passed:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// waitUnderWay returns when n batches are under way on c's stream to id, which is
// open.
func waitUnderWay(t *testing.T, c *Client, id push.NodeID, n int) {
	t.Helper()
	c.streams.mu.Lock()
	d := c.streams.byNode[id]
	c.streams.mu.Unlock()
	<-d.done
	beat := time.NewTicker(time.Millisecond)
	defer beat.Stop()
	for end := time.After(time.Minute); ; {
		d.stream.mu.Lock()
		calls := len(d.stream.calls)
		d.stream.mu.Unlock()
		if calls == n {
			return
		}
		select {
		case <-beat.C:
		case <-end:
			t.Fatalf("%d batches are under way, want %d", calls, n)
		}
	}
}

// A stream that answers no more is dropped with the first deadline that passes;
// what else is under way on it goes as requests, and the next call opens another.
func TestHalfDeadStreamIsDropped(t *testing.T) {
	hang, hangs := make(chan struct{}), make(chan struct{})
	var hung atomic.Bool
	p := newPeer(t, func(number uint64, req *push.DeliverRequest) (push.BatchAnswer, bool) {
		if hung.CompareAndSwap(false, true) {
			close(hangs)
			<-hang
			return push.BatchAnswer{}, false
		}
		return echo(number, req)
	})
	t.Cleanup(func() { close(hang) })
	c := client(t, secretA)
	deliver := func(ctx context.Context, channel push.Channel) <-chan error {
		got := make(chan error, 1)
		go func() {
			_, err := c.Deliver(ctx, p.id, to(channel))
			got <- err
		}()
		return got
	}
	first := limit{t.Context(), make(chan struct{})}
	waiting := deliver(first, "first")
	<-hangs
	behind := deliver(t.Context(), "second")
	waitUnderWay(t, c, p.id, 2)
	close(first.passed)
	if err := <-waiting; !errors.Is(err, ErrTimeout) {
		t.Errorf("the one that hangs: %v, want %v", err, ErrTimeout)
	}
	if err := <-behind; err != nil || p.requests.Load() != 1 {
		t.Errorf("behind the one that hangs: %v after %d requests, want it to go as a request", err, p.requests.Load())
	}
	if _, err := c.Deliver(t.Context(), p.id, to("third")); err != nil || p.opened.Load() != 2 || p.requests.Load() != 1 {
		t.Errorf("afterwards: %v, %d streams opened, %d requests; want a new stream", err, p.opened.Load(), p.requests.Load())
	}
}

// A caller that leaves says nothing about the stream.
func TestCallerLeaves(t *testing.T) {
	release := make(chan struct{})
	began := make(chan struct{}, 2)
	p := newPeer(t, func(number uint64, req *push.DeliverRequest) (push.BatchAnswer, bool) {
		began <- struct{}{}
		<-release
		return echo(number, req)
	})
	c := client(t, secretA)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := c.Deliver(ctx, p.id, to("a"))
		left <- err
	}()
	<-began
	cancel()
	if err := <-left; !errors.Is(err, ErrTimeout) {
		t.Errorf("the call that was left: %v, want %v", err, ErrTimeout)
	}
	close(release)
	if _, err := c.Deliver(t.Context(), p.id, to("b")); err != nil || p.opened.Load() != 1 {
		t.Errorf("the next: %v, %d streams, want the same stream", err, p.opened.Load())
	}
}

// What does not fit in a frame goes as a request, which says why it is refused.
func TestTooLargeForAStream(t *testing.T) {
	p := newPeer(t, echo)
	req := to("c")
	req.Messages[0].Data = json.RawMessage(`"` + strings.Repeat("x", push.MaxStreamFrame) + `"`)
	if _, err := client(t, secretA).Deliver(t.Context(), p.id, req); !errors.Is(err, ErrRefused) {
		t.Errorf("Deliver: %v, want %v", err, ErrRefused)
	}
}

func TestClosedClientMakesRequests(t *testing.T) {
	p := newPeer(t, echo)
	c := client(t, secretA)
	for range 2 {
		if _, err := c.Deliver(t.Context(), p.id, to("c")); err != nil {
			t.Error(err)
		}
		c.Close()
	}
	if p.requests.Load() != 1 {
		t.Errorf("%d requests, want one", p.requests.Load())
	}
}

// BenchmarkDeliver brings batches of 100 messages to a node that only reads them.
func BenchmarkDeliver(b *testing.B) {
	const messages = 100
	v := signature.NewVerifier(signature.VerifierConfig{}, keys(b, secretA))
	var id push.NodeID
	p := &peer{take: func(number uint64, _ *push.DeliverRequest) (push.BatchAnswer, bool) {
		return push.BatchAnswer{Number: number}, true
	}}
	mux := http.NewServeMux()
	mux.Handle("POST /v1/node/deliver", signature.Require(v, 1<<20, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req push.DeliverRequest
		if p := serve.Decode(w, r, 1<<20, &req); p != nil {
			b.Error(p)
		}
		serve.JSON(w, 200, push.DeliverAnswer{Node: id})
	})))
	streams := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{ReadBufferSize: 64 << 10}).Upgrade(w, r, nil)
		if err == nil {
			go p.serve(ws)
		}
	})
	req := push.DeliverRequest{}
	for i := range messages {
		req.Messages = append(req.Messages, push.Message{ID: push.MessageID(fmt.Sprint("bench/", i)), Data: json.RawMessage(`"` + strings.Repeat("x", 126) + `"`),
			CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour), Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
		req.Entries = append(req.Entries, push.DeliverEntry{Channel: push.Channel(fmt.Sprint("#", i)), Offset: 1 << 51, Prev: 1<<51 - 12345, Message: i})
	}
	for _, how := range []string{"request", "stream"} {
		b.Run(how, func(b *testing.B) {
			if how == "stream" {
				mux.Handle("GET "+push.StreamPath, streams)
			}
			s := httptest.NewServer(mux)
			defer s.Close()
			id = push.NewNodeID(strings.TrimPrefix(s.URL, "http://"), "one")
			c := New(Config{}, signature.NewSigner(keys(b, secretA)), time.Now, nil)
			defer c.Close()
			for b.Loop() {
				if _, err := c.Deliver(b.Context(), id, req); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*messages), "µs/message")
		})
	}
}
