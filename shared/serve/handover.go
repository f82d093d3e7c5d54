package serve

import (
	"errors"
	"net"
)

// handoverBacklog is how many connections may be on their way to net/http.
const handoverBacklog = 128

// A Handover brings net/http the connections that somebody else has accepted, and
// read, first. It may be used by several goroutines.
type Handover struct {
	conns chan net.Conn
	ended chan struct{}
}

// NewHandover returns a handover that goes on until End.
func NewHandover() *Handover {
	return &Handover{conns: make(chan net.Conn, handoverBacklog), ended: make(chan struct{})}
}

// Next returns the next connection for net/http; [net.ErrClosed] once End was
// called, whatever there is still.
func (h *Handover) Next() (net.Conn, error) {
	select {
	case c := <-h.conns:
		if h.HasEnded() { // of two ways that are open Go takes any
			c.Close()
			return nil, net.ErrClosed
		}
		return c, nil
	case <-h.ended:
		return nil, net.ErrClosed
	}
}

// PassOn gives net/http a connection, with what was read of it, which is net/http's
// from then on. Once End was called the connection is closed instead.
func (h *Handover) PassOn(c net.Conn, said []byte) {
	select {
	case h.conns <- &HeardConn{Conn: c, said: said}:
	case <-h.ended:
		c.Close()
	}
	if h.HasEnded() {
		h.empty() // End may have done so before ours was among them
	}
}

// End closes what net/http has not asked for, now and from now on. It is called
// once.
func (h *Handover) End() {
	close(h.ended)
	h.empty()
}

// Ended returns a channel that End closes.
func (h *Handover) Ended() <-chan struct{} { return h.ended }

// HasEnded reports whether End was called.
func (h *Handover) HasEnded() bool {
	select {
	case <-h.ended:
		return true
	default:
		return false
	}
}

func (h *Handover) empty() {
	for {
		select {
		case c := <-h.conns:
			c.Close()
		default:
			return
		}
	}
}

// A HeardConn is a connection of which some was read before (net.Conn).
type HeardConn struct {
	net.Conn
	said []byte
}

// Read reads what was read before, and then on.
func (c *HeardConn) Read(p []byte) (int, error) {
	if len(c.said) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.said)
	c.said = c.said[n:]
	if len(c.said) == 0 {
		c.said = nil
	}
	return n, nil
}

// AllRead reports whether everything that was read before was read again.
func (c *HeardConn) AllRead() bool { return len(c.said) == 0 }

// CloseWrite says that nothing more will be written, so that what was is read
// before the connection goes: net/http ends a refusal with it.
func (c *HeardConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
