package node

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"pushcluster/pushnode/loop"
	"pushcluster/pushnode/opening"
	"pushcluster/shared/serve"
)

// socketPath is where clients open their WebSocket.
const socketPath = "/connection/websocket"

const (
	openingTime = 5 * time.Second // for a request to come whole, as net/http is given
	answerTime  = 5 * time.Second // for a refusal to be taken
	frontPause  = 10 * time.Millisecond
)

// A front is the public port before net/http. It reads the requests that open a
// WebSocket on the event loops, which is most of what comes, and gives them to
// the handler; all other connections are for net/http, with what was read.
type front struct {
	net.Listener // closed by Close

	node     *Node
	handler  http.Handler
	acceptor *loop.Acceptor

	others *serve.Handover // ended when no more connections come
	once   sync.Once       // starts the accept loop
	all    sync.WaitGroup  // its goroutines
	stop   func() error    // closes once

	mu    sync.Mutex             // guards what follows
	young map[*newcomer]struct{} // those whose request is not whole, or whose refusal is not taken
}

// Front returns what net/http is to serve in place of l: the connections whose
// first request does not open a WebSocket. Those that do are given to handler
// beside that, as net/http would. Where the node has no event loops, that is l
// itself.
func (n *Node) Front(l net.Listener, handler http.Handler) net.Listener {
	tcp, ok := l.(*net.TCPListener)
	if !ok || n.cfg.Sockets == SocketsGoroutine {
		return l
	}
	a, err := loop.NewAcceptor(tcp)
	if err != nil {
		if !errors.Is(err, errors.ErrUnsupported) {
			n.log.Warn("net/http accepts all connections", "err", err)
		}
		return l
	}
	f := &front{
		Listener: l, node: n, handler: handler, acceptor: a,
		others: serve.NewHandover(), young: make(map[*newcomer]struct{}),
	}
	f.stop = sync.OnceValue(f.end)
	return f
}

// Accept returns the next connection for net/http (net.Listener).
func (f *front) Accept() (net.Conn, error) {
	f.once.Do(func() {
		f.all.Go(f.accept)
		f.all.Go(f.sweep)
	})
	return f.others.Next()
}

// Close stops taking connections; those that have not said what they want are
// closed (net.Listener).
func (f *front) Close() error { return f.stop() }

func (f *front) end() error {
	err := errors.Join(f.Listener.Close(), f.acceptor.Close())
	f.others.End()
	f.once.Do(func() {}) // nothing starts any more
	f.all.Wait()
	f.mu.Lock()
	young := f.young
	f.young = nil
	f.mu.Unlock()
	for c := range young {
		c.sock.Close()
	}
	return err
}

// accept takes connections until the listener is closed.
func (f *front) accept() {
	pause := frontPause
	for {
		fd, err := f.acceptor.Accept()
		switch {
		case err == nil:
			pause = frontPause
			f.welcome(fd)
		case errors.Is(err, net.ErrClosed):
			return
		default: // no descriptors, no memory: others may go
			f.node.log.Warn("connection not accepted", "err", err)
			select {
			case <-time.After(pause):
				pause = min(2*pause, time.Second)
			case <-f.others.Ended():
				return
			}
		}
	}
}

// welcome waits for what a new connection says.
func (f *front) welcome(fd int) {
	if f.node.state.Load() != stateServing { // there is none to wait for, or not for long
		f.all.Go(func() {
			conn, err := loop.Conn(fd)
			f.passOn(conn, err, nil)
		})
		return
	}
	p := f.node.poller
	s, err := p.NewSocket(fd)
	if err != nil {
		loop.CloseFD(fd)
		return
	}
	c := &newcomer{front: f, sock: s, came: time.Now()}
	f.mu.Lock()
	if f.young == nil {
		f.mu.Unlock()
		s.Close()
		return
	}
	f.young[c] = struct{}{}
	f.mu.Unlock()
	if p.Watch(s, c) != nil {
		c.close()
	}
}

// sweep closes those who take too long.
func (f *front) sweep() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-f.others.Ended():
			return
		case now := <-t.C:
			f.mu.Lock()
			var late []*newcomer
			for c := range f.young {
				if now.Sub(c.came) > openingTime {
					late = append(late, c)
				}
			}
			f.mu.Unlock()
			for _, c := range late {
				c.close()
			}
		}
	}
}

// forget says that c is young no more. It reports false if the front has ended.
func (f *front) forget(c *newcomer) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.young[c]
	delete(f.young, c)
	return ok
}

// openings read requests.
var openings = sync.Pool{New: func() any { return new(opening.Reader) }}

// A newcomer is a connection whose first request is read (loop.Owner).
type newcomer struct {
	front *front
	sock  *loop.Socket
	came  time.Time

	// Owned by whoever reads.
	said    []byte
	refused bool // it was answered, and is to go
	after   int  // bytes that came since
	unread  bool // more may be on the socket that will not be announced
}

// Drained does nothing.
func (c *newcomer) Drained() {}

// Broken closes the connection.
func (c *newcomer) Broken() { c.close() }

func (c *newcomer) close() {
	c.front.forget(c)
	c.sock.Close()
}

// Readable reads what came, on an event loop.
func (c *newcomer) Readable(buf []byte) {
	for {
		n, more, err := c.sock.Read(buf)
		if err != nil && !errors.Is(err, loop.ErrWouldBlock) {
			c.close()
			return
		}
		c.unread = err == nil && more
		if c.refused {
			if c.after += n; c.after > lingerBytes {
				c.close()
				return
			}
		} else if n > 0 && c.hear(buf[:n]) {
			return
		}
		if err == nil && more {
			continue
		}
		switch c.sock.Yield() {
		case loop.Over:
			return
		case loop.Closed:
			c.front.forget(c)
			return
		}
	}
}

// hear takes bytes of the request. It reports true if somebody else has the
// right to read now.
func (c *newcomer) hear(b []byte) bool {
	if len(c.said) > 0 {
		c.said = append(c.said, b...)
		b = c.said
	}
	rd := openings.Get().(*opening.Reader)
	r, verdict := rd.Read(b, socketPath)
	if verdict == opening.Opening {
		c.said = nil
		c.front.node.work(func() { c.open(rd, r) })
		return true
	}
	openings.Put(rd)
	if verdict == opening.Incomplete {
		if len(c.said) == 0 {
			c.said = bytes.Clone(b)
		}
		return false
	}
	said := bytes.Clone(b)
	c.front.node.work(func() {
		c.front.forget(c)
		conn, err := c.sock.Conn()
		c.front.passOn(conn, err, said)
	})
	return true
}

// passOn gives a connection to net/http, with what was read of it, unless err says
// that there is none.
func (f *front) passOn(c net.Conn, err error, said []byte) {
	if err == nil {
		f.others.PassOn(c, said)
	}
}

// open has the handler answer the request, which rd read. The handler keeps
// nothing of it but texts.
func (c *newcomer) open(rd *opening.Reader, r *http.Request) {
	if !c.front.forget(c) {
		c.sock.Close()
		return
	}
	a := &frontAnswer{sock: c.sock, unread: c.unread}
	c.front.serve(a, r)
	openings.Put(rd)
	if a.taken {
		if a.next != nil {
			a.next()
		}
		return
	}
	// It was refused. The client is to take that before the connection goes.
	c.refused, c.came = true, time.Now().Add(answerTime-openingTime)
	_, err := c.sock.Write(a.bytes())
	c.front.mu.Lock()
	open := c.front.young != nil && err == nil
	if open {
		c.front.young[c] = struct{}{}
	}
	c.front.mu.Unlock()
	if !open || !c.sock.CloseWrite() {
		c.close()
		return
	}
	c.Readable(make([]byte, 512))
}

// serve has the handler answer; one that panics has answered nothing.
func (f *front) serve(a *frontAnswer, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				f.node.log.Error("panic in a handshake", "panic", p)
			}
			a.taken = true
			a.sock.Close()
		}
	}()
	f.handler.ServeHTTP(a, r)
}
