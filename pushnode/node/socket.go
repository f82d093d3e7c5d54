package node

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// A socket is a transport of a connection that a goroutine reads: what there is
// where no event loop can be, and for connections with TLS. What the kernel does
// not take at once is kept until a goroutine for the purpose has written it. So
// whoever delivers to thousands of connections never waits for one of them, and
// an idle connection needs no goroutine for writing.
type socket struct {
	net.Conn
	raw     syscall.RawConn // nil where the connection has none (TLS): all is left to flush
	shallow bool            // it is read by raw, whenever there is something to read; else by gorilla, which waits for it

	mu    sync.Mutex // guards what follows
	rest  []byte
	since time.Time // when rest began to wait, or some of it was last taken
}

func newSocket(c net.Conn) *socket {
	s := &socket{Conn: c}
	heard, some := c.(*serve.HeardConn) // of which raw does not have all
	if some {
		c = heard.Conn
	}
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw, s.shallow = raw, rawReads && !some
		}
	}
	return s
}

// Write takes all of p. An error means that the connection is broken.
func (s *socket) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := 0
	if len(s.rest) == 0 && s.raw != nil {
		n, err := writeNow(s.raw, p)
		if err != nil {
			return n, err
		}
		taken = n
	}
	if len(s.rest) == 0 && taken < len(p) {
		s.since = time.Now()
	}
	s.rest = append(s.rest, p[taken:]...)
	return len(p), nil
}

// SetWriteDeadline does nothing: Write needs none, flush sets its own.
func (s *socket) SetWriteDeadline(time.Time) error { return nil }

func (s *socket) waiting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.rest) > 0
}

func (s *socket) awaitDrained(c *client) bool {
	if !s.waiting() {
		return false
	}
	c.node.spawn(func() {
		if s.see(c) {
			c.write()
		}
	})
	return true
}

// see waits until the socket took everything. Of a peer that takes nothing judge
// says what follows: TLS survives no deadline, so there is none while one that is
// slow may yet take the close frame. see reports false of one that does not.
func (s *socket) see(c *client) bool {
	if s.flush(c.node.cfg.WriteTimeout+c.node.cfg.SlowTimeout) != nil {
		c.abort(push.CloseWriteError)
		return false
	}
	return true
}

func (s *socket) judge(c *client, now time.Time) bool {
	s.mu.Lock()
	since, yes := s.since, len(s.rest) > 0
	s.mu.Unlock()
	if yes {
		c.judgeWaiting(now.Sub(since))
	}
	return yes
}

func (s *socket) dropUnsent() {
	if c, ok := s.Conn.(interface{ SetLinger(seconds int) error }); ok { // with TLS it is not
		_ = c.SetLinger(0) // one that is closed already has nothing to send
	}
}

func (s *socket) cut() bool {
	_ = s.Conn.Close() // the reader sees it
	return false
}

// flushBytes is how much is written at a time, and thus what a peer must take not
// to count as taking nothing.
const flushBytes = 4 << 10

// flush writes what waits, for as long as some of it is taken within timeout; with
// TLS, flushBytes of it. One goroutine at a time may call it.
func (s *socket) flush(timeout time.Duration) error {
	for {
		if err := s.Conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		s.mu.Lock()
		part := s.rest[:min(len(s.rest), flushBytes)]
		s.mu.Unlock()
		if len(part) == 0 {
			return nil
		}
		n, err := s.Conn.Write(part)
		s.mu.Lock()
		s.rest = s.rest[n:] // Write only ever appends, so this cuts what was written
		if n > 0 {
			s.since = time.Now()
		}
		if len(s.rest) == 0 {
			s.rest = nil
		}
		s.mu.Unlock()
		if err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return err
		}
	}
}

// lingerBytes is the most that is read of a peer that goes on sending after it
// was told that its frame is too large.
const lingerBytes = 4 << 20

// linger ends the writing side and reads on for a while, so that the peer takes
// the close frame: a connection that is closed with bytes unread is reset, and
// what was written last is lost with it.
func (s *socket) linger(most time.Duration) {
	if !s.closeWrite() {
		return
	}
	_ = s.Conn.SetReadDeadline(time.Now().Add(most))
	_, _ = io.CopyN(io.Discard, s.Conn, lingerBytes) // its error is the peer's end, or ours
}

func (s *socket) closeWrite() bool {
	half, ok := s.Conn.(interface{ CloseWrite() error })
	return ok && !s.waiting() && half.CloseWrite() == nil
}
