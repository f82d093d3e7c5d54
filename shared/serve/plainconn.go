package serve

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"
)

const (
	plainBuffer = 4 << 10  // bytes read at once
	plainKept   = 64 << 10 // bytes of an answer whose memory is kept for the next

	// Bytes of line ends behind the body of a POST that net/http passes over: old
	// clients send them.
	plainBlank = 4
)

// What a connection does. How long it may is [plainConn.late]'s.
const (
	stateNew      uint32 = iota // nothing came yet
	stateIdle                   // it was answered, and nothing came since
	stateHead                   // a part of a head came
	stateBody                   // a head came, and not yet its body
	stateHandling               // its request is being answered
	stateWriting                // the answer is being written
	stateClosed                 // it was closed: it takes no request any more

	stateBits = 3 // the others count the changes
)

// stateTimes are how long each may last outside of tests. What is 0 has no end.
var stateTimes = [1 << stateBits]time.Duration{
	stateNew: readHeaderTimeout, stateIdle: idleTimeout, stateHead: readHeaderTimeout, stateBody: readTimeout, stateWriting: writeTimeout,
}

// A plainConn is a connection on which plain requests come.
type plainConn struct {
	// Fixed by the front.
	front *front
	conn  net.Conn

	state atomic.Uint32

	// Owned by the front's sweep.
	seen  uint32 // the state at an earlier look
	since time.Time

	// Owned by serve.
	template *http.Request
	answer   plainAnswer
	out      []byte
	date     dater
}

// enter changes the state, and reports false if the connection was closed.
func (c *plainConn) enter(state uint32) bool {
	was := c.state.Load()
	return was&(1<<stateBits-1) != stateClosed && c.state.CompareAndSwap(was, c.next(was, state))
}

func (c *plainConn) next(was, state uint32) uint32 { return (was>>stateBits+1)<<stateBits | state }

// closeIf closes the connection if it is in one of states.
func (c *plainConn) closeIf(states ...uint32) {
	was := c.state.Load()
	for _, s := range states {
		if was&(1<<stateBits-1) == s && c.state.CompareAndSwap(was, c.next(was, stateClosed)) {
			c.conn.Close()
		}
	}
}

// cut closes the connection, whatever it does.
func (c *plainConn) cut() {
	c.state.Store(stateClosed) // from which nothing leads away
	c.conn.Close()
}

// late reports whether the connection has been at the same for too long, and if
// so takes it for closed: its socket is the caller's to close. It is called now
// and then, so that what is too long is known up to twice that later. Its caller
// holds the front's mutex.
func (c *plainConn) late(now time.Time) bool {
	was := c.state.Load()
	if was != c.seen || c.since.IsZero() {
		c.seen, c.since = was, now
		return false
	}
	most := c.front.times[was&(1<<stateBits-1)]
	return most > 0 && now.Sub(c.since) >= most && c.state.CompareAndSwap(was, c.next(was, stateClosed))
}

// serve answers plain requests, one after the other, until the connection ends or
// something else comes on it.
func (c *plainConn) serve() {
	defer c.front.open.Done()
	c.template = (&http.Request{
		Method: http.MethodPost, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: c.conn.RemoteAddr().String(),
	}).WithContext(c.front.requests)
	c.answer.header = make(http.Header)
	unread, others := c.converse()
	if !others {
		c.conn.Close()
	}
	c.front.forget(c)
	if others {
		c.front.others.PassOn(c.conn, unread)
	}
}

// converse answers requests. It returns what was read of one that is not plain
// and others true, or false where the connection has ended.
func (c *plainConn) converse() (unread []byte, others bool) {
	buf := make([]byte, plainBuffer)
	have := 0  // bytes in buf that belong to the next request
	blank := 0 // line ends that may come before it
	for {
		skip := lineEnds(buf[:min(have, blank)])
		have, blank = copy(buf, buf[skip:have]), blank-skip
		r, v := readPlain(buf[:have])
		switch v {
		case plainOther:
			return bytes.Clone(buf[:have]), c.enter(stateHandling)
		case plainIncomplete:
			if have > 0 && !c.in(stateHead) && !c.enter(stateHead) {
				return nil, false
			}
			n, err := c.conn.Read(buf[have:])
			if n == 0 && err != nil {
				return nil, false
			}
			have += n
			continue
		}
		body := make([]byte, r.body)
		got := copy(body, buf[r.head:have])
		if got < len(body) {
			if !c.enter(stateBody) {
				return nil, false
			}
			if _, err := io.ReadFull(c.conn, body[got:]); err != nil {
				return nil, false
			}
		}
		have, blank = copy(buf, buf[r.head+got:have]), plainBlank
		if !c.enter(stateHandling) || !c.reply(r.request(c.template, body)) {
			return nil, false
		}
	}
}

// lineEnds returns how many line ends, of one byte each, b begins with.
func lineEnds(b []byte) int { return len(b) - len(bytes.TrimLeft(b, "\r\n")) }

// in reports whether the connection is in state.
func (c *plainConn) in(state uint32) bool { return c.state.Load()&(1<<stateBits-1) == state }

// reply has the handler answer r and writes the answer. It reports whether the
// next request may come.
func (c *plainConn) reply(r *http.Request) bool {
	c.answer.reset()
	if !c.handle(r) {
		return false
	}
	last := c.front.others.HasEnded() || c.answer.header.Get("Connection") == "close"
	c.out = c.answer.append(c.out[:0], c.date.at(time.Now()), last)
	if !c.enter(stateWriting) {
		return false
	}
	_, err := c.conn.Write(c.out)
	if cap(c.out) > plainKept {
		c.out, c.answer.body = nil, nil
	}
	if err != nil || last || !c.enter(stateIdle) {
		return false
	}
	if c.front.others.HasEnded() { // who closes idle ones may have passed before it was one
		c.closeIf(stateIdle)
		return false
	}
	return true
}

// handle has the handler answer r. One that panics has answered nothing.
func (c *plainConn) handle(r *http.Request) (whole bool) {
	defer func() {
		if p := recover(); p != nil {
			whole = false
			if p != http.ErrAbortHandler {
				c.front.log.Error("panic in a handler", "panic", p, "stack", string(debug.Stack()))
			}
		}
	}()
	c.front.handler.ServeHTTP(&c.answer, r)
	return true
}
