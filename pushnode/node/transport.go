package node

import (
	"io"
	"net"
	"time"

	"pushcluster/pushnode/loop"
	"pushcluster/shared/push"
)

// A transport is where one connection's bytes go. Its Write never blocks: what
// the kernel does not take at once waits. There are two: [socket], which a
// goroutine reads, and [pollSocket], which an event loop reads.
type transport interface {
	net.Conn // for gorilla

	// waiting reports whether bytes wait for the kernel to take them.
	waiting() bool
	// awaitDrained reports whether bytes wait. If so, write is called for c when
	// they are written, and until then nobody else owns its writing side.
	awaitDrained(c *client) bool
	// judge closes c, at a tick, if its peer takes nothing. It reports whether
	// something waits for the peer to take it.
	judge(c *client, now time.Time) bool
	// closeWrite ends the sending side, behind what was written. It does nothing
	// where bytes wait, and reports whether it did.
	closeWrite() bool
	// dropUnsent has cut reset the connection, with what the kernel has not sent.
	dropUnsent()
	// cut closes the connection. It reports true, once, if nobody reads: then the
	// caller ends the client.
	cut() bool
}

// A pollSocket is the transport of a connection that an event loop reads.
type pollSocket struct{ *loop.Socket }

func (s pollSocket) waiting() bool {
	_, yes := s.Waiting()
	return yes
}

func (s pollSocket) awaitDrained(*client) bool { return s.AwaitDrained() }

func (s pollSocket) judge(c *client, now time.Time) bool {
	since, yes := s.Waiting()
	if !yes {
		return false
	}
	c.judgeWaiting(now.Sub(since))
	return true
}

// judgeWaiting closes c if its peer has taken nothing of what waits for too long.
// One that then does not take the close frame either is cut off.
func (c *client) judgeWaiting(long time.Duration) {
	late := long - c.node.cfg.WriteTimeout
	if late > 0 {
		c.fallBehind("write_timeout")
	}
	if late > c.node.cfg.SlowTimeout {
		c.abort(push.CloseWriteError)
	}
}

func (s pollSocket) closeWrite() bool { return s.CloseWrite() }

func (s pollSocket) dropUnsent() { s.DropUnsent() }

func (s pollSocket) cut() bool { return s.Socket.Close() }

// What gorilla may ask of a net.Conn. It reads through an intake instead.

func (s pollSocket) Read([]byte) (int, error)         { return 0, io.EOF }
func (s pollSocket) Close() error                     { s.Socket.Close(); return nil }
func (s pollSocket) LocalAddr() net.Addr              { return nil }
func (s pollSocket) RemoteAddr() net.Addr             { return nil }
func (s pollSocket) SetDeadline(time.Time) error      { return nil }
func (s pollSocket) SetReadDeadline(time.Time) error  { return nil }
func (s pollSocket) SetWriteDeadline(time.Time) error { return nil }

// Drained goes on writing (loop.Owner).
func (c *client) Drained() { c.write() }

// Broken gives the connection up (loop.Owner).
func (c *client) Broken() { c.abort(push.CloseWriteError) }

// Readable reads what came, on an event loop (loop.Owner).
func (c *client) Readable(buf []byte) { c.read(buf, false) }
