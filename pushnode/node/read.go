package node

import (
	"errors"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"pushcluster/pushnode/loop"
	"pushcluster/shared/push"
)

// keepPartial keeps rest, which may be a part of what is kept, for later.
func (c *client) keepPartial(rest []byte) {
	p := c.partial
	switch {
	case p == nil && len(rest) == 0:
		return
	case p == nil:
		p = partials.Get().(*partial)
		c.partial = p
	}
	p.bytes = append(p.bytes[:0], rest...)
	if len(p.bytes) > 0 || len(p.fragments) > 0 {
		if c.frameSince.Load() == 0 {
			c.frameSince.Store(time.Now().UnixNano())
			c.stir()
		}
		return
	}
	c.partial = nil
	c.frameSince.Store(0)
	if cap(p.bytes) <= maxKeptPartial && cap(p.fragments) <= maxKeptPartial {
		partials.Put(p)
	}
}

// A verdict is what reading came to.
type verdict int

const (
	goOn       verdict = iota
	handedOver         // another goroutine reads on
	ended              // nothing more is to be read
)

// readBuffers are for reading off the event loops.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, 1<<10); return &b }}

// How often one connection is read, and how many of its frames are dealt with in
// one go, before others have their turn: of the smallest frames a loop's buffer
// holds ten thousand.
const (
	readsInTurn  = 16
	framesInTurn = 64
)

// read reads what there is and does what it says. The caller has the right to
// read; when read returns it has given that back, or passed it on. What may
// block is done only if mayBlock, else by another goroutine.
func (c *client) read(buf []byte, mayBlock bool) {
	s := c.sock.(pollSocket).Socket
	for reads := 0; ; reads++ {
		if reads == readsInTurn && !mayBlock {
			c.unread = true
			c.node.work(c.readOn)
			return
		}
		n, more, err := s.Read(buf)
		c.unread = err == nil && more // for whoever it is handed over to
		if err != nil && !errors.Is(err, loop.ErrWouldBlock) {
			c.end()
			return
		}
		if n > 0 {
			switch c.take(buf[:n], mayBlock) {
			case handedOver:
				return
			case ended:
				c.end()
				return
			}
		}
		if err == nil && more {
			continue
		}
		if !c.yield(s) {
			return
		}
	}
}

// yield gives the right to read back, and reports whether there is reason to read
// on instead. If not, the client is not the caller's any more.
func (c *client) yield(s *loop.Socket) bool {
	switch s.Yield() {
	case loop.Over:
		return false
	case loop.Closed:
		c.end()
		return false
	}
	return true
}

// readOn reads on a goroutine of its own, beginning with what is kept. The socket
// is read only if something is known to be there, or came meanwhile.
func (c *client) readOn() {
	if c.take(nil, true) == ended {
		c.end()
		return
	}
	if !c.unread && !c.yield(c.sock.(pollSocket).Socket) {
		return
	}
	buf := readBuffers.Get().(*[]byte)
	defer readBuffers.Put(buf)
	c.read(*buf, true)
}

// take does what the bytes b say, with those that are kept before them. The rest
// is kept.
func (c *client) take(b []byte, mayBlock bool) verdict {
	if c.lingering > 0 {
		c.lingering -= int32(len(b))
		if c.lingering <= 0 {
			return ended
		}
		return goOn
	}
	if p := c.partial; p != nil && len(p.bytes) > 0 {
		p.bytes = append(p.bytes, b...)
		b = p.bytes
	}
	for frames := 1; ; frames++ {
		size, v := c.takeFrame(b, mayBlock)
		b = b[size:]
		switch {
		case v == ended:
			return ended
		case v == handedOver:
			c.keepPartial(b)
			c.node.work(c.obeyAndReadOn)
			return handedOver
		case c.lingering > 0:
			return goOn
		case size == 0:
			c.keepPartial(b)
			return goOn
		case frames == framesInTurn && !mayBlock && len(b) > 0:
			c.keepPartial(b)
			c.node.work(c.readOn)
			return handedOver
		}
	}
}

// obeyAndReadOn does what was handed over, and then reads on.
func (c *client) obeyAndReadOn() {
	m := c.later
	c.later = nil
	c.obey(m.messageType, m.message)
	c.readOn()
}

// takeFrame deals with the frame that b begins with and returns how many bytes
// it had: 0 where b does not hold all of it.
func (c *client) takeFrame(b []byte, mayBlock bool) (size int, v verdict) {
	size, m, err := c.node.intakes[c.intake].next(c, &c.partial, c.node.cfg.MaxFrame, b)
	switch {
	case errors.Is(err, errFragments):
		c.node.metrics.badFrames.Inc()
		c.close(push.CloseBadRequest)
		return size, ended
	case err != nil:
		return size, c.failed(err)
	case m != nil:
		return size, c.hear(m, mayBlock)
	}
	return size, goOn
}

// failed says what follows an error of gorilla's, which has told the peer: it is
// to take that before the connection goes.
func (c *client) failed(err error) verdict {
	if !errors.Is(err, websocket.ErrReadLimit) || !c.sock.closeWrite() {
		return ended
	}
	c.lingering = lingerBytes
	c.letGo()
	return goOn
}

// hear does what a message says, or has another goroutine do it if that may take
// a while.
func (c *client) hear(m *heard, mayBlock bool) verdict {
	c.frameSince.Store(0)
	if c.isPong(m.messageType, m.message) {
		c.protocolPong()
		return goOn
	}
	if mayBlock {
		c.obey(m.messageType, m.message)
		return goOn
	}
	c.later = m
	return handedOver
}
