package serve

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// A telling is a listener whose connections tell of what is done with them, before
// it is done.
type telling struct {
	net.Listener
	reads, writes chan struct{} // with room for what a test counts
}

func newTelling(t *testing.T) *telling {
	t.Helper()
	l, err := Listen(t.Context(), "LISTEN", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &telling{l, make(chan struct{}, 64), make(chan struct{}, 64)}
}

// Accept returns the next connection (net.Listener).
func (l *telling) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tellingConn{c, l}, nil
}

type tellingConn struct {
	net.Conn
	l *telling
}

// Read tells that it reads, and reads (io.Reader).
func (c *tellingConn) Read(p []byte) (int, error) {
	c.l.reads <- struct{}{}
	return c.Conn.Read(p)
}

// Write tells that it writes, and writes (io.Writer).
func (c *tellingConn) Write(p []byte) (int, error) {
	c.l.writes <- struct{}{}
	return c.Conn.Write(p)
}

// TestPlainLeavesNothingOpen: once Run has returned, whatever for, no request begins
// and no connection is open.
func TestPlainLeavesNothingOpen(t *testing.T) {
	whole := plainText("/", "", "5", "hello")
	under := map[string]struct {
		says  string
		until func(l *telling) // the server is there
		rest  string
	}{
		"half a head": {whole[:20], func(l *telling) { <-l.reads; <-l.reads }, whole[20:]},
		"half a body": {whole[:len(whole)-2], func(l *telling) { <-l.reads; <-l.reads }, whole[len(whole)-2:]},
		"an answer":   {whole, func(l *telling) { <-l.writes }, ""},
	}
	ends := map[string]func(l *telling, stop context.CancelFunc){
		"its grace ended":     func(_ *telling, stop context.CancelFunc) { stop() },
		"its listener failed": func(l *telling, _ context.CancelFunc) { l.Close() },
	}
	for name, tt := range under {
		for why, end := range ends {
			t.Run(name+", "+why, func(t *testing.T) {
				var requests atomic.Int32
				handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					requests.Add(1)
					w.Write(bytes.Repeat([]byte("x"), 32<<20)) // more than sockets hold
				})
				l := newTelling(t)
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				ran := make(chan error, 1)
				go func() {
					ran <- Run(ctx, quiet(), Server{Name: "public", Listener: l, Handler: handler, Plain: true, Grace: time.Millisecond})
				}()
				e := dial(t, l.Addr().String())
				e.say(t, tt.says)
				tt.until(l)
				before := requests.Load()
				end(l, stop)
				if err := <-ran; (err == nil) != (ctx.Err() != nil) {
					t.Errorf("Run = %v", err)
				}
				io.WriteString(e.conn, tt.rest) // which may fail by now
				if s, ok := e.hear(t); ok {
					t.Errorf("answered %v after Run, want the connection's end", s)
				}
				if after := requests.Load(); after != before {
					t.Errorf("%d requests were begun after Run, want none", after-before)
				}
			})
		}
	}
}

// fronting runs a front with its net/http, which sweeps every millisecond and
// allows connections all the time there is, until the test ends.
func fronting(t *testing.T, handler http.HandlerFunc) *front {
	t.Helper()
	l, err := Listen(t.Context(), "LISTEN", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newFront(l, handler, quiet())
	f.pace, f.times = time.Millisecond, [1 << stateBits]time.Duration{}
	accepted := make(chan error, 1)
	go func() {
		_, err := f.Accept()
		accepted <- err
	}()
	t.Cleanup(func() {
		f.Close()
		f.cutOff()
		if err := <-accepted; err != net.ErrClosed {
			t.Errorf("Accept = %v, want the end", err)
		}
	})
	return f
}

// waitState returns when a connection is in state.
func waitState(t *testing.T, f *front, state uint32) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); {
		for _, c := range f.left() {
			if c.in(state) {
				return
			}
		}
	}
	t.Fatalf("no connection came to state %d", state)
}

// allow has connections stay in state no longer than the next sweeps take to see it.
func (f *front) allow(state uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.times[state] = time.Nanosecond
}

// TestPlainSweepsSlowClients: who takes too long hears the connection's end, also
// while the port is shut down.
func TestPlainSweepsSlowClients(t *testing.T) {
	whole := plainText("/", "", "5", "hello")
	tests := map[string]struct {
		says   string
		hears  bool // an answer, first
		state  uint32
		closed bool // already, by Close
	}{
		"silent":              {"", false, stateNew, true},
		"silent, once served": {whole, true, stateIdle, true},
		"half a head":         {whole[:20], false, stateHead, false},
		"another half head":   {whole + whole[:20], true, stateHead, false},
		"half a body":         {whole[:len(whole)-2], false, stateBody, false},
	}
	for name, tt := range tests {
		for _, ending := range []bool{false, true} {
			if ending {
				name += ", at the end"
			}
			t.Run(name, func(t *testing.T) {
				f := fronting(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "whole") })
				e := dial(t, f.Addr().String())
				e.say(t, tt.says)
				if tt.hears {
					if s, ok := e.hear(t); !ok || s.body != "whole" {
						t.Fatalf("answered %v, %v", s, ok)
					}
				}
				waitState(t, f, tt.state)
				if ending {
					f.Close()
				}
				if !ending || !tt.closed {
					f.allow(tt.state)
				}
				if b, err := e.r.ReadByte(); err == nil || isTimeout(err) {
					t.Errorf("read %q, %v, want the connection's end", b, err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				if !f.wait(ctx) {
					t.Error("wait = false, want that nothing was left to cut off")
				}
			})
		}
	}
}

// An answer that nobody takes ends, too.
func TestPlainSweepsWhoDoesNotRead(t *testing.T) {
	f := fronting(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write(bytes.Repeat([]byte("x"), 32<<20)) // more than sockets hold
	})
	e := dial(t, f.Addr().String())
	e.say(t, plainText("/", "", "5", "hello"))
	waitState(t, f, stateWriting)
	f.allow(stateWriting)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if !f.wait(ctx) {
		t.Error("wait = false, want that the sweep has ended the answer")
	}
	if s, ok := e.hear(t); ok {
		t.Errorf("answered with %d bytes, want the connection's end before all", len(s.body))
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}
