package serve

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
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

	pace     time.Duration   // of the sweep
	requests context.Context // of requests, and of the sweep; ended by cutOff
	stop     context.CancelFunc
	start    sync.Once      // of accept and sweep
	taking   sync.WaitGroup // accept
	sweeping sync.WaitGroup // sweep
	open     sync.WaitGroup // connections

	mu     sync.Mutex // guards what follows
	broken error      // why accept gave up
	ended  bool       // no more connections are taken in
	conns  map[*plainConn]struct{}
	times  [1 << stateBits]time.Duration // how long each state may last; 0: without end
}

func newFront(l net.Listener, handler http.Handler, log *slog.Logger) *front {
	f := &front{
		Listener: l, handler: handler, log: log, others: NewHandover(), pace: frontSweep,
		conns: make(map[*plainConn]struct{}), times: stateTimes,
	}
	f.requests, f.stop = context.WithCancel(context.Background())
	f.close = sync.OnceValue(f.end)
	return f
}

// Accept returns the next connection for net/http (net.Listener).
func (f *front) Accept() (net.Conn, error) {
	f.start.Do(func() {
		f.taking.Go(f.accept)
		f.sweeping.Go(f.sweep)
	})
	c, err := f.others.Next()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil && f.broken != nil {
		return nil, f.broken
	}
	return c, err
}

// Close stops taking connections and closes those on which nothing of a request
// came; the others are closed with their answers, when they take too long, or by
// cutOff (net.Listener).
func (f *front) Close() error { return f.close() }

func (f *front) end() error {
	f.others.End() // first, for giveUp
	err := f.Listener.Close()
	f.start.Do(func() {}) // nothing starts any more
	f.taking.Wait()
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	for _, c := range f.left() {
		c.closeIf(stateNew, stateIdle)
	}
	return err
}

// left returns the connections that are open, and not net/http's.
func (f *front) left() []*plainConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Keys(f.conns))
}

// wait takes no more connections and returns when the last one has ended. If ctx
// ends before that it returns false, with those that are left cut off.
func (f *front) wait(ctx context.Context) bool {
	f.close()
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

// cutOff closes all connections, whatever is under way on them: no request begins
// any more, and what a handler answers from here on is not sent. Then it ends the
// contexts of requests. It does not wait for handlers. Close comes before it.
func (f *front) cutOff() {
	for _, c := range f.left() {
		c.cut()
	}
	f.stop()
	f.sweeping.Wait()
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
	if f.ended {
		f.mu.Unlock()
		conn.Close()
		return
	}
	f.conns[c] = struct{}{}
	f.open.Add(1)
	f.mu.Unlock()
	go c.serve()
}

// forget says that c has ended, or is about to be net/http's: it is not closed from
// here any more.
func (f *front) forget(c *plainConn) {
	f.mu.Lock()
	delete(f.conns, c)
	f.mu.Unlock()
}

// sweep closes connections that take too long, so that none needs timers. It goes
// on when no more are taken in, until those left are cut off: who says half a head
// and no more has no grace.
func (f *front) sweep() {
	t := time.NewTicker(f.pace)
	defer t.Stop()
	for {
		select {
		case <-f.requests.Done():
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
