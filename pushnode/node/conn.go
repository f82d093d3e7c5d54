package node

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
)

// A conn is a client's writing side: a WebSocket with a bounded queue. Whoever
// sends writes at once if nobody is writing; else the packet waits in the queue,
// which the present writer takes whole, in frames of several packets. Only a
// socket that is full keeps anything beyond that.
type conn struct {
	// Fixed by Node.open.
	sock  transport
	codec *codec

	lookAt atomic.Int64 // the moment before which no sweep need look at the connection; 0: the next one shall

	wmu      sync.Mutex // guards what follows, but dirty; taken after client.mu
	due      *due       // what waits to be written; nil: nothing ever did since it was last empty
	writing  bool       // somebody owns the WebSocket's writing side
	closing  bool       // nothing is queued any more
	codeSent bool

	dirty atomic.Bool // a publication was queued since the last ping
}

// due is what a connection has to write besides what is being written.
type due struct {
	queue     [][]byte
	bytes     int // in queue
	wsPong    []byte
	wsPongDue bool // a WebSocket ping waits for its pong
	wsPing    bool // a WebSocket ping is due, behind the queue
	code      push.CloseCode
	closeBy   time.Time       // when the peer must have answered the close frame
	idleWaits []chan struct{} // closed when the queue has been written
}

// gone is what a connection counts as that ended without a close frame.
var gone = push.CloseCode{Reason: "gone"}

// frameBytes is about how large a frame of several packets may become.
const frameBytes = 64 << 10

// todo returns what is due, to add to it. c.wmu is held.
func (c *conn) todo() *due {
	if c.due == nil {
		c.due = &due{}
	}
	return c.due
}

// send queues a packet; the caller must not modify it afterwards. It never
// blocks. A connection whose queue is full is closed as slow.
func (c *client) send(packet []byte) { c.sendPacket(packet, false) }

// sendPacket is send; a brief packet is the caller's again afterwards.
func (c *client) sendPacket(packet []byte, brief bool) {
	c.wmu.Lock()
	switch {
	case c.closing:
		c.wmu.Unlock()
		return
	case c.writing:
		if d := c.todo(); d.bytes+len(packet) > c.node.cfg.QueueBytes {
			c.beginClose(push.CloseSlow, "queue_full")
		} else {
			if brief {
				packet = bytes.Clone(packet)
			}
			d.queue = append(d.queue, packet)
			d.bytes += len(packet)
		}
		c.wmu.Unlock()
		return
	}
	c.writing = true // and so nothing waits
	c.wmu.Unlock()
	if c.writeFrame(packet) != nil {
		c.abort(push.CloseWriteError)
		return
	}
	c.write()
}

// Publish queues a publication (hub.Connection).
func (c *client) Publish(p *hub.Publication) {
	packet, err := c.codec.publication(p)
	if err != nil {
		// Only data that is no JSON can cause it, and Collect lets none pass.
		c.node.metrics.dropped.WithLabelValues("encode").Inc()
		return
	}
	c.soil()
	c.sendPacket(packet, p.Brief())
}

// soil notes that the client was given something since its last ping.
func (c *client) soil() {
	if !c.dirty.Load() {
		c.dirty.Store(true)
		c.stir()
	}
}

// close ends the connection with code, after what is queued. It never blocks.
// Only the first call counts.
func (c *client) close(code push.CloseCode) {
	c.wmu.Lock()
	if c.closing {
		c.wmu.Unlock()
		return
	}
	if code == push.CloseNoPong && c.sock.waiting() {
		c.beginClose(push.CloseSlow, "blocked") // it did not even take the ping
	} else {
		c.beginClose(code, "")
	}
	c.takeWriting()
}

// beginClose stops queueing. A slow connection loses its queue: its client
// comes back and recovers. c.wmu is held.
func (c *client) beginClose(code push.CloseCode, slowReason string) {
	c.closing = true
	c.stir()
	d := c.todo()
	d.code = code
	if slowReason != "" {
		d.queue, d.bytes = nil, 0
		c.node.metrics.slow.WithLabelValues(slowReason).Inc()
	}
	c.node.metrics.closed.WithLabelValues(code.Reason).Inc()
}

// answerPing queues the pong that RFC 6455 section 5.5.3 asks for; of several
// pings only the last is answered.
func (c *client) answerPing(data string) {
	c.wmu.Lock()
	d := c.todo()
	d.wsPong, d.wsPongDue = []byte(data), true
	c.takeWriting()
}

// sendFramePing queues a WebSocket ping, for clients that asked for those.
func (c *client) sendFramePing() {
	c.wmu.Lock()
	c.todo().wsPing = true
	c.takeWriting()
}

// takeWriting writes what is due unless somebody else does. It is called with
// c.wmu held, and releases it.
func (c *client) takeWriting() {
	if c.writing {
		c.wmu.Unlock()
		return
	}
	c.writing = true
	c.wmu.Unlock()
	c.write()
}

// flush has what gorilla wrote by itself go out, where a goroutine must see to
// that (TLS). It does not wait.
func (c *client) flush() {
	if c.sock.waiting() {
		c.wmu.Lock()
		c.takeWriting()
	}
}

// write owns the writing side until nothing is due. Where the socket is full,
// whoever sees it drained goes on.
func (c *client) write() {
	for !c.sock.awaitDrained(c) {
		ok, err := c.writeNext()
		if err != nil {
			c.abort(push.CloseWriteError)
			return
		}
		if !ok {
			return
		}
	}
	c.stir() // so that somebody sees to it that the peer takes what it is sent
}

// writeNext writes one frame of what is due and reports whether there was any;
// if not, it gave the writing side up.
func (c *client) writeNext() (bool, error) {
	c.wmu.Lock()
	d := c.due
	switch {
	case d == nil:
	case d.wsPongDue && !c.codeSent:
		data := d.wsPong
		d.wsPong, d.wsPongDue = nil, false
		c.wmu.Unlock()
		return true, c.writeControl(websocket.PongMessage, data)
	case len(d.queue) > 0:
		packets := d.takeFrame()
		c.wmu.Unlock()
		return true, c.writeFrame(packets...)
	case d.wsPing && !c.codeSent:
		d.wsPing = false
		c.wmu.Unlock()
		return true, c.writeControl(websocket.PingMessage, nil)
	case c.closing && !c.codeSent:
		c.codeSent = true
		d.closeBy = time.Now().Add(c.node.cfg.CloseTimeout) // the tick sees to it
		code := d.code
		c.wmu.Unlock()
		return true, c.writeControl(websocket.CloseMessage, websocket.FormatCloseMessage(code.Code, code.Reason))
	}
	c.writing = false
	if d != nil {
		d.wake()
		if !c.closing {
			c.due = nil
		}
	}
	c.wmu.Unlock()
	return false, nil
}

// takeFrame takes packets for one frame off the queue. The client's wmu is held.
func (d *due) takeFrame() [][]byte {
	n, size := 0, 0
	for n < len(d.queue) && (n == 0 || size+len(d.queue[n]) <= frameBytes) {
		size += len(d.queue[n])
		n++
	}
	packets := d.queue[:n:n]
	d.queue = d.queue[n:]
	if len(d.queue) == 0 {
		d.queue = nil
	}
	d.bytes -= size
	return packets
}

// wake tells those who wait for the queue that it is written, or never will be.
func (d *due) wake() {
	for _, w := range d.idleWaits {
		close(w)
	}
	d.idleWaits = nil
}

// frameBuffers hold frames while they are written.
var frameBuffers = sync.Pool{New: func() any { return new([]byte) }}

// maxKeptFrame is the largest buffer that is kept for later frames.
const maxKeptFrame = 2 * frameBytes

// writeFrame writes packets as one WebSocket message in one frame.
func (c *client) writeFrame(packets ...[]byte) error {
	size := (len(packets) - 1) * len(c.codec.separator)
	for _, p := range packets {
		size += len(p)
	}
	buffer := frameBuffers.Get().(*[]byte)
	b := appendFrameHeader(slices.Grow((*buffer)[:0], size+maxFrameHeader), c.codec.messageType, size)
	for i, p := range packets {
		if i > 0 {
			b = append(b, c.codec.separator...)
		}
		b = append(b, p...)
	}
	_, err := c.sock.Write(b)
	if cap(b) <= maxKeptFrame {
		*buffer = b
		frameBuffers.Put(buffer)
	}
	return err
}

// writeControl writes a control frame, of which [maxControl] bytes count.
func (c *client) writeControl(messageType int, data []byte) error {
	data = data[:min(len(data), maxControl)]
	b := appendFrameHeader(make([]byte, 0, 2+len(data)), messageType, len(data))
	_, err := c.sock.Write(append(b, data...))
	return err
}

// queued returns how many bytes wait in the queue.
func (c *client) queued() int {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.due == nil {
		return 0
	}
	return c.due.bytes
}

// idle returns a channel that is closed once everything queued so far is
// written or will never be.
func (c *client) idle() <-chan struct{} {
	w := make(chan struct{})
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if !c.writing || c.closing {
		close(w)
		return w
	}
	d := c.todo()
	d.idleWaits = append(d.idleWaits, w)
	return w
}

// isClosing reports whether the connection takes no more packets.
func (c *client) isClosing() bool {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.closing
}

// fallBehind closes a connection that takes nothing, if nothing else has.
func (c *client) fallBehind(why string) {
	c.wmu.Lock()
	if c.closing {
		c.wmu.Unlock()
		return
	}
	c.beginClose(push.CloseSlow, why)
	c.takeWriting()
}

// letGo leaves the peer its time to take a close frame that gorilla wrote.
func (c *client) letGo() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if !c.closing {
		c.beginClose(gone, "")
	}
	c.codeSent = true
	c.due.queue, c.due.bytes = nil, 0
	c.due.closeBy = time.Now().Add(c.node.cfg.CloseTimeout)
}

// parting reports whether the connection is being closed, and whether the peer
// has had its time to answer the close frame.
func (c *client) parting(now time.Time) (closing, overdue bool) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.closing, c.codeSent && now.After(c.due.closeBy)
}

// abort cuts the connection off; if nothing else closed it before, it counts as
// closed by why. Reading ends at once.
func (c *client) abort(why push.CloseCode) {
	c.wmu.Lock()
	if !c.closing {
		c.beginClose(why, "")
	}
	c.due.wake()
	c.wmu.Unlock()
	if c.sock.cut() {
		c.node.work(c.end) // not here: whoever writes may hold locks
	}
}
