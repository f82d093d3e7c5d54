package node

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
)

// A conn is the transport of one connection: a WebSocket with a bounded queue.
// Whoever sends writes at once if nobody is writing; else the packet waits in
// the queue, which the present writer takes whole, in frames of several
// packets. Only a socket that is full costs a goroutine, until it is empty.
type conn struct {
	// Fixed by newConn.
	ws      *websocket.Conn
	sock    *socket
	codec   *codec
	limits  connLimits
	metrics *metrics
	spawn   func(func()) // starts a goroutine that the node waits for

	dirty atomic.Bool // a publication was queued since the last ping

	mu        sync.Mutex // guards what follows
	queue     [][]byte
	queued    int  // bytes in queue
	writing   bool // somebody owns the WebSocket's writing side
	wsPong    []byte
	wsPongDue bool // a WebSocket ping waits for its pong
	wsPing    bool // a WebSocket ping is due, behind the queue
	closing   bool // nothing is queued any more
	code      push.CloseCode
	codeSent  bool
	idleWaits []chan struct{} // closed when the queue has been written
}

// connLimits bounds what one connection may hold and how long it may take.
type connLimits struct {
	queueBytes   int           // waiting packets; beyond it the connection is slow
	writeTimeout time.Duration // for the socket to take anything
	closeTimeout time.Duration // for a close frame to be taken and answered
	slowTimeout  time.Duration // for a slow peer to take what is left and its close frame
}

// gone is what a connection counts as that ended without a close frame.
var gone = push.CloseCode{Reason: "gone"}

// frameBytes is about how large a frame of several packets may become.
const frameBytes = 64 << 10

// send queues a packet; the caller must not modify it afterwards. It never
// blocks. A connection whose queue is full is closed as slow.
func (c *conn) send(packet []byte) {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return
	}
	if c.queued+len(packet) > c.limits.queueBytes && c.writing {
		c.beginClose(push.CloseSlow, "queue_full")
		c.mu.Unlock()
		return
	}
	c.queue = append(c.queue, packet)
	c.queued += len(packet)
	c.takeWriting()
}

// Publish queues a publication (hub.Connection).
func (c *conn) Publish(p *hub.Publication) {
	packet, err := c.codec.publication(p)
	if err != nil {
		// Only data that is no JSON can cause it, and Collect lets none pass.
		c.metrics.dropped.WithLabelValues("encode").Inc()
		return
	}
	c.dirty.Store(true)
	c.send(packet)
}

// close ends the connection with code, after what is queued. It never blocks.
// Only the first call counts.
func (c *conn) close(code push.CloseCode) {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return
	}
	if code == push.CloseNoPong && c.sock.blocked() {
		c.beginClose(push.CloseSlow, "blocked") // it did not even take the ping
	} else {
		c.beginClose(code, "")
	}
	c.takeWriting()
}

// beginClose stops queueing. A slow connection loses its queue: its client
// comes back and recovers. c.mu is held.
func (c *conn) beginClose(code push.CloseCode, slowReason string) {
	c.closing, c.code = true, code
	if slowReason != "" {
		c.queue, c.queued = nil, 0
		c.metrics.slow.WithLabelValues(slowReason).Inc()
	}
	c.metrics.closed.WithLabelValues(code.Reason).Inc()
}

// answerPing queues the pong that RFC 6455 section 5.5.3 asks for; of several
// pings only the last is answered.
func (c *conn) answerPing(data string) error {
	c.mu.Lock()
	c.wsPong, c.wsPongDue = []byte(data), true
	c.takeWriting()
	return nil
}

// takeWriting writes what is due unless somebody else does. It is called with
// c.mu held, and releases it.
func (c *conn) takeWriting() {
	if c.writing {
		c.mu.Unlock()
		return
	}
	c.writing = true
	c.mu.Unlock()
	c.write(false)
}

// write owns the writing side until nothing is due. Unless patient, it hands
// over to a goroutine of its own where the socket is full.
func (c *conn) write(patient bool) {
	for {
		ok, err := c.writeNext()
		if err != nil {
			c.abort(push.CloseWriteError)
			return
		}
		if !ok {
			return
		}
		if !c.sock.blocked() {
			continue
		}
		if !patient {
			c.spawn(func() {
				if c.flush() {
					c.write(true)
				}
			})
			return
		}
		if !c.flush() {
			return
		}
	}
}

// flush waits until the socket took everything. A peer that takes nothing is
// slow; one that then does not take the close frame either is cut off, and
// flush reports false.
func (c *conn) flush() bool {
	err := c.sock.flush(c.limits.writeTimeout)
	if err == nil {
		return true
	}
	c.mu.Lock()
	if !c.closing {
		c.beginClose(push.CloseSlow, "write_timeout")
	}
	c.mu.Unlock()
	if c.sock.flush(c.limits.slowTimeout) != nil {
		c.abort(push.CloseWriteError)
		return false
	}
	return true
}

// writeNext writes one frame of what is due and reports whether there was any;
// if not, it gave the writing side up.
func (c *conn) writeNext() (bool, error) {
	c.mu.Lock()
	switch {
	case c.wsPongDue && !c.codeSent:
		data := c.wsPong
		c.wsPong, c.wsPongDue = nil, false
		c.mu.Unlock()
		return true, c.ws.WriteControl(websocket.PongMessage, data, time.Time{})
	case len(c.queue) > 0:
		packets := c.takeFrame()
		c.mu.Unlock()
		return true, c.writeFrame(packets)
	case c.wsPing && !c.codeSent:
		c.wsPing = false
		c.mu.Unlock()
		return true, c.ws.WriteControl(websocket.PingMessage, nil, time.Time{})
	case c.closing && !c.codeSent:
		c.codeSent = true
		code := c.code
		c.mu.Unlock()
		err := c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code.Code, code.Reason), time.Time{})
		// The reader ends when the peer answers, or with this deadline.
		c.ws.SetReadDeadline(time.Now().Add(c.limits.closeTimeout))
		return true, err
	}
	c.writing = false
	for _, w := range c.idleWaits {
		close(w)
	}
	c.idleWaits = nil
	c.mu.Unlock()
	return false, nil
}

// takeFrame takes packets for one frame off the queue. c.mu is held.
func (c *conn) takeFrame() [][]byte {
	n, size := 0, 0
	for n < len(c.queue) && (n == 0 || size+len(c.queue[n]) <= frameBytes) {
		size += len(c.queue[n])
		n++
	}
	packets := c.queue[:n:n]
	c.queue = c.queue[n:]
	if len(c.queue) == 0 {
		c.queue = nil
	}
	c.queued -= size
	return packets
}

var joinBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func (c *conn) writeFrame(packets [][]byte) error {
	if len(packets) == 1 {
		return c.ws.WriteMessage(c.codec.messageType, packets[0])
	}
	b := joinBuffers.Get().(*bytes.Buffer)
	defer joinBuffers.Put(b)
	b.Reset()
	for i, p := range packets {
		if i > 0 {
			b.WriteString(c.codec.separator)
		}
		b.Write(p)
	}
	return c.ws.WriteMessage(c.codec.messageType, b.Bytes())
}

// waiting returns how many bytes are queued.
func (c *conn) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queued
}

// idle returns a channel that is closed once everything queued so far is
// written or will never be.
func (c *conn) idle() <-chan struct{} {
	w := make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.writing || c.closing {
		close(w)
		return w
	}
	c.idleWaits = append(c.idleWaits, w)
	return w
}

// abort cuts the connection off; if nothing else closed it before, it counts
// as closed by why. The reader ends at once.
func (c *conn) abort(why push.CloseCode) {
	c.mu.Lock()
	if !c.closing {
		c.beginClose(why, "")
	}
	for _, w := range c.idleWaits {
		close(w)
	}
	c.idleWaits = nil
	c.mu.Unlock()
	c.sock.Close()
}
