package serve

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	frontPause = 5 * time.Millisecond // before it is tried again to accept; doubled each time
	frontSweep = time.Second          // between looks for who takes too long
)

// A front is a port before net/http. It answers plain requests (see readPlain)
// with its handler by itself, because net/http spends more on one than our
// handlers do. A connection on which something else comes is for net/http from
// there on, with what was read of it. To net/http a front is the listener.
type front struct {
	net.Listener // closed by Close

	handler http.Handler
	log     *slog.Logger
	others  *Handover    // ended when no more connections come
	close   func() error // once

	requests context.Context // of requests; ended by cutOff
	cutOff   context.CancelFunc
	start    sync.Once      // of accept and sweep
	all      sync.WaitGroup // these two
	open     sync.WaitGroup // connections

	mu     sync.Mutex              // guards what follows
	broken error                   // why accept gave up
	conns  map[*plainConn]struct{} // nil: no more are taken in
}

func newFront(l net.Listener, handler http.Handler, log *slog.Logger) *front {
	f := &front{
		Listener: l, handler: handler, log: log, others: NewHandover(), conns: make(map[*plainConn]struct{}),
	}
	f.requests, f.cutOff = context.WithCancel(context.Background())
	f.close = sync.OnceValue(f.end)
	return f
}

// Accept returns the next connection for net/http (net.Listener).
func (f *front) Accept() (net.Conn, error) {
	f.start.Do(func() {
		f.all.Go(f.accept)
		f.all.Go(f.sweep)
	})
	c, err := f.others.Next()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil && f.broken != nil {
		return nil, f.broken
	}
	return c, err
}

// Close stops taking connections and closes those on which no request is under
// way; the others are closed with their answers (net.Listener).
func (f *front) Close() error { return f.close() }

func (f *front) end() error {
	err := f.Listener.Close()
	f.start.Do(func() {}) // nothing starts any more
	f.others.End()
	f.all.Wait()
	f.mu.Lock()
	conns := f.conns
	f.conns = nil
	f.mu.Unlock()
	for c := range conns {
		c.closeIf(stateNew, stateIdle)
	}
	return err
}

// wait returns when the last connection has ended, false if ctx ends before that.
// Then connections are cut off, and the contexts of their requests end. It may be
// called after Close.
func (f *front) wait(ctx context.Context) bool {
	ended := make(chan struct{})
	go func() { // a handler that never returns keeps it, and itself
		f.open.Wait()
		close(ended)
	}()
	defer f.cutOff()
	select {
	case <-ended:
		return true
	case <-ctx.Done():
		return false
	}
}

// accept takes connections until the listener is closed.
func (f *front) accept() {
	pause := frontPause
	for {
		c, err := f.Listener.Accept()
		if err == nil {
			pause = frontPause
			f.welcome(c)
			continue
		}
		//lint:ignore SA1019 net/http goes by it as well
		if ne, ok := err.(net.Error); !ok || !ne.Temporary() {
			f.giveUp(err)
			return
		}
		f.log.Warn("connection not accepted", "err", err) // no descriptors, say: others may go
		select {
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		case <-f.others.Ended():
			return
		}
	}
}

// giveUp has Accept return err, unless the listener was closed on purpose.
func (f *front) giveUp(err error) {
	if f.others.HasEnded() {
		return
	}
	f.mu.Lock()
	f.broken = err
	f.mu.Unlock()
	go f.close() // which waits for who calls this
}

// welcome serves a connection.
func (f *front) welcome(conn net.Conn) {
	c := &plainConn{front: f, conn: conn}
	f.mu.Lock()
	if f.conns == nil {
		f.mu.Unlock()
		conn.Close()
		return
	}
	f.conns[c] = struct{}{}
	f.open.Add(1)
	f.mu.Unlock()
	go c.serve()
}

// forget says that c has ended, or is net/http's.
func (f *front) forget(c *plainConn) {
	f.mu.Lock()
	delete(f.conns, c)
	f.mu.Unlock()
	f.open.Done()
}

// sweep closes connections that take too long, so that none needs timers. Once no
// more are taken in, those left are bounded by the grace that they have.
func (f *front) sweep() {
	t := time.NewTicker(frontSweep)
	defer t.Stop()
	for {
		select {
		case <-f.others.Ended():
			return
		case now := <-t.C:
			var late []*plainConn
			f.mu.Lock()
			for c := range f.conns {
				if c.late(now) {
					late = append(late, c)
				}
			}
			f.mu.Unlock()
			for _, c := range late {
				c.conn.Close()
			}
		}
	}
}
