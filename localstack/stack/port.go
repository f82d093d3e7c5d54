package stack

import (
	"context"
	"net"
	"strconv"
	"sync"

	"pushcluster/shared/freeaddr"
	"pushcluster/shared/serve"
)

// Ports are the TCP ports of a stack on 127.0.0.1. Zero means any free port.
type Ports struct {
	Page                     int
	Auth, AuthInternal       int
	Collect, CollectInternal int
	Dispatch                 int
	DispatchInternal         int
	Node, NodeInternal       int // of the first node; those of the others follow
}

// A door is a port that a process listens on. It keeps its address over
// restarts of the process. A nil door is no port at all. Its methods may be
// called by one goroutine at a time.
type door struct {
	env   string // the environment variable that moves it
	addr  string // port 0 until it was reserved, if any will do
	early *listener
}

func newDoor(env string, port int) *door {
	return &door{env: env, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
}

// reserve listens already, for open to take over, so that the address is known
// before the process runs.
func (d *door) reserve(ctx context.Context) error {
	if d == nil || d.early != nil {
		return nil
	}
	if _, port, err := net.SplitHostPort(d.addr); err == nil && port == "0" {
		// One that no other process is given while its own is stopped; if there is
		// none, any will do.
		if addr, err := freeaddr.One(); err == nil {
			d.addr = addr
		}
	}
	l, err := serve.Listen(ctx, d.env, d.addr)
	if err != nil {
		return err
	}
	d.addr = l.Addr().String()
	d.early = &listener{Listener: l, conns: make(map[*conn]struct{})}
	return nil
}

// open returns the listener, nil of a nil door.
func (d *door) open(ctx context.Context) (*listener, error) {
	if d == nil {
		return nil, nil
	}
	if err := d.reserve(ctx); err != nil {
		return nil, err
	}
	l := d.early
	d.early = nil
	return l, nil
}

// release closes a listener that was reserved and not opened.
func (d *door) release() {
	if d != nil && d.early != nil {
		d.early.Close()
		d.early = nil
	}
}

func (d *door) url() string {
	if d == nil {
		return ""
	}
	return "http://" + d.addr
}

// A listener can cut off all its connections at once, as the end of a process
// does.
type listener struct {
	net.Listener

	mu    sync.Mutex // guards what follows
	conns map[*conn]struct{}
	isCut bool
}

// A conn is a TCP connection that its listener knows.
type conn struct {
	*net.TCPConn // embedded whole, so that it is a syscall.Conn as well
	listener     *listener
}

// Accept waits for the next connection (net.Listener).
func (l *listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{TCPConn: accepted.(*net.TCPConn), listener: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isCut {
		c.TCPConn.Close()
		return nil, net.ErrClosed
	}
	l.conns[c] = struct{}{}
	return c, nil
}

// Close closes the connection (net.Conn).
func (c *conn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.conns, c)
	c.listener.mu.Unlock()
	return c.TCPConn.Close()
}

// cut closes the listener and resets its connections. What was not sent yet is
// lost.
func (l *listener) cut() {
	if l == nil {
		return
	}
	l.Listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = true
	for c := range l.conns {
		c.SetLinger(0)
		c.TCPConn.Close()
	}
	clear(l.conns)
}
