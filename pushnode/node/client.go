package node

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/centrifugal/protocol"
	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"pushcluster/pushnode/hub"
	"pushcluster/pushnode/loop"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A client is one connection with what it said of itself and what it follows.
// There are many of them, and most do nothing: what they rarely need they hold
// by pointer, and fields lie so that a client fits into 288 bytes, which a test
// sees to.
type client struct {
	conn

	// Fixed by Node.open.
	node   *Node
	id     uuid.UUID   // the connection's id, as clients see it
	device push.Device // written under mu by connect, where the handshake named none

	// Fixed by Node.enroll, before the client's first subscription; "" before.
	user push.UserID

	// Owned by whoever reads, who runs the commands one after another; framePing
	// and intake are fixed by Node.open.
	partial   *partial // what came of a message; nil: nothing
	later     *heard   // a message that another goroutine will obey
	lingering int32    // above 0: how many bytes are still read, for the peer's sake
	intake    uint8    // the number of the intake where gorilla reads what an event loop brings
	refused   bool     // connect was answered with an error; nothing more is heard
	unread    bool     // more may be on the socket that will not be announced
	framePing bool     // pings are WebSocket ping frames, not protocol pings

	frameSince atomic.Int64 // when a frame began that is not whole yet, in ns of Unix time; 0: none

	// Guarded by node.mu.
	place      int     // in node.clients
	next, prev *client // of the same user

	mu        sync.Mutex // guards what follows, but connected; not held while sending
	rights    rights
	subs      []following
	passing   *passing // nil: nothing of it; not so before the connect command succeeded
	since     int64    // when the connect command succeeded, in ns of Unix time; 0: it has not yet
	nextPing  moment
	pingSent  moment // 0: no ping is outstanding
	pingFirst moment // when the last ping went out, for the once-a-second rule
	ended     bool
	greeted   bool // the reply to connect is queued, and news may follow it
	changing  bool // it is somebody's turn to change subs

	connected atomic.Bool // the connect command succeeded
}

// passing is what a client holds only at times: while it connects, above all.
type passing struct {
	opened    moment
	hello     push.Identity // whom the handshake's token named; zero without one, and after connect
	greeting  chan struct{} // closed when greeted; nil: nobody waits
	recovery  chan struct{} // holds a token while a recovery reads and writes a page
	line      *waiter       // the first of those who wait to change subs
	noted     []noted       // with the ping that is outstanding
	refusedAt moment        // when connect was answered with an error; 0: it was not
}

// pass returns what the client holds at times, to add to it. c.mu is held.
func (c *client) pass() *passing {
	if c.passing == nil {
		c.passing = &passing{}
	}
	return c.passing
}

// passed drops what the client holds at times, if none of it is needed any more.
// c.mu is held.
func (c *client) passed() {
	p := c.passing
	if p != nil && c.connected.Load() && p.greeting == nil && p.recovery == nil && p.line == nil && p.noted == nil && p.refusedAt == 0 {
		c.passing = nil
	}
}

// noted is how far a client was given a channel when a ping was sent.
type noted struct {
	sub    *hub.Subscription
	cursor store.Cursor
}

// heardControl takes a control frame (peer).
func (c *client) heardControl(messageType, _ int, data string) {
	switch messageType {
	case websocket.PingMessage:
		c.answerPing(data)
	case websocket.PongMessage:
		if c.framePing {
			c.pong()
		}
	case websocket.CloseMessage:
		c.close(push.CloseNormal) // answers the peer's close frame
	}
}

// writeFault sends the client a frame of gorilla's (peer).
func (c *client) writeFault(frame []byte) (int, error) { return c.sock.Write(frame) }

// listen waits until there is something to read, on a goroutine of its own, and
// then has a worker read it and do what it says. That one has another goroutine
// wait again: a stack that became larger hardly ever becomes smaller, and those of
// goroutines that wait are to be the smallest there are. A connection that an
// event loop reads needs none of it.
func (c *client) listen() {
	raw := c.sock.(*socket).raw
	err := awaitReadable(raw)
	c.node.work(func() {
		if err == nil {
			err = c.readWaiting(raw)
		}
		if err == nil {
			c.node.spawn(c.listen)
			return
		}
		c.end()
		c.over(err)
	})
}

// over tells why reading ended.
func (c *client) over(why error) {
	c.node.log.Debug("connection ended", "client", c.id.String(), "why", why)
}

// readWaiting reads what there is and does what it says. An error means that
// nothing more is to be read.
func (c *client) readWaiting(raw syscall.RawConn) error {
	buf := readBuffers.Get().(*[]byte)
	defer readBuffers.Put(buf)
	for {
		n, err := readNow(raw, *buf)
		switch {
		case errors.Is(err, loop.ErrWouldBlock):
			return nil
		case err != nil:
			return err
		case c.take((*buf)[:n], true) == ended:
			return errEnded
		}
	}
}

var errEnded = errors.New("told to end")

// run reads a connection by gorilla until it ends and gives up everything that the
// client held. What was sent is done by a worker.
func (c *client) run(ws *websocket.Conn) {
	err := c.runByGorilla(ws)
	c.end()
	c.over(err)
}

// runByGorilla returns why reading ended.
func (c *client) runByGorilla(ws *websocket.Conn) error {
	for {
		messageType, message, err := c.readMessage(ws)
		if errors.Is(err, websocket.ErrReadLimit) {
			c.flush()
			select { // until the peer has been told, which gorilla has written
			case <-c.idle():
			case <-time.After(c.node.cfg.CloseTimeout):
			}
			c.sock.(*socket).linger(c.node.cfg.CloseTimeout)
		}
		if err != nil {
			return err
		}
		if c.isPong(messageType, message) {
			c.protocolPong()
			continue
		}
		done := make(chan struct{})
		c.node.work(func() {
			defer close(done)
			c.obey(messageType, message)
		})
		<-done
	}
}

// readMessage reads a message, however long that takes; what has begun is timed.
func (c *client) readMessage(ws *websocket.Conn) (messageType int, message []byte, err error) {
	messageType, r, err := ws.NextReader()
	if err != nil {
		return 0, nil, err
	}
	c.frameSince.Store(time.Now().UnixNano())
	c.stir()
	defer c.frameSince.Store(0)
	message, err = io.ReadAll(r)
	return messageType, message, err
}

// isPong reports whether a message is the protocol's pong and nothing else.
func (c *client) isPong(messageType int, message []byte) bool {
	return messageType == c.codec.messageType && bytes.Equal(message, c.codec.ping)
}

// obey runs the commands of a message.
func (c *client) obey(messageType int, message []byte) {
	if messageType != c.codec.messageType {
		c.close(push.CloseBadRequest)
		return
	}
	commands, err := c.codec.decodeCommands(message)
	if err != nil {
		c.node.metrics.badFrames.Inc()
		c.close(push.CloseBadRequest)
		return
	}
	for _, cmd := range commands {
		c.handle(cmd)
	}
}

// end gives up the client's subscriptions and place in the node. It is called
// once, by whoever reads or would.
func (c *client) end() {
	c.abort(gone)
	c.mu.Lock()
	c.ended = true
	subs := c.subs
	c.subs = nil
	c.mu.Unlock()
	for _, f := range subs {
		c.node.unsubscribe(f.sub)
	}
	c.node.forget(c)
}

// handle runs one command. Every command with an id gets exactly one answer.
func (c *client) handle(cmd *protocol.Command) {
	if c.refused || c.isClosing() {
		return // the client will close, or is being closed
	}
	if cmd.Id == 0 && cmd.Send == nil {
		if cmd.Connect != nil || cmd.Subscribe != nil || cmd.Rpc != nil {
			c.close(push.CloseBadRequest)
			return
		}
		c.protocolPong()
		return
	}
	if !c.connected.Load() && cmd.Connect == nil {
		c.close(push.CloseBadRequest)
		return
	}
	ctx := c.node.commandContext()
	var reply *protocol.Reply
	var err error
	switch {
	case cmd.Connect != nil:
		err = c.connect(ctx, cmd) // replies itself: publications follow the reply at once
	case cmd.Subscribe != nil:
		err = c.subscribe(ctx, cmd)
	case cmd.Unsubscribe != nil:
		reply, err = c.unsubscribe(ctx, cmd.Unsubscribe)
	case cmd.Refresh != nil:
		reply, err = c.refresh(ctx, cmd.Refresh)
	case cmd.Rpc != nil:
		reply, err = c.rpc(cmd.Rpc)
	case cmd.Ping != nil:
		reply = &protocol.Reply{Ping: &protocol.PingResult{}}
	case cmd.Send != nil:
		err = closeError{push.CloseNotAvailable}
	case cmd.Publish != nil, cmd.Presence != nil, cmd.PresenceStats != nil, cmd.History != nil, cmd.SubRefresh != nil:
		err = errNotAvailable
	default:
		err = closeError{push.CloseBadRequest}
	}
	if err != nil {
		c.fail(cmd, err)
	} else if reply != nil {
		c.reply(cmd.Id, reply)
	}
}

// Omit notes that the client's device is not given what o says (hub.Connection).
func (c *client) Omit(channel push.Channel, o store.Omission) {
	if c.device == "" {
		return
	}
	c.node.cursors.spare(store.Spared{User: c.user, Device: c.device, Channel: channel, Omission: o})
}

func (c *client) omitAll(channel push.Channel, list []store.Omission) {
	for _, o := range list {
		c.Omit(channel, o)
	}
}

// protocolPong takes the client's `{}`, the answer to our ping.
func (c *client) protocolPong() {
	if !c.refused && !c.pong() {
		c.close(push.CloseBadRequest) // which does nothing if it is being closed
	}
}

// reply sends the answer to the command id.
func (c *client) reply(id uint32, r *protocol.Reply) {
	r.Id = id
	packet, err := c.codec.encode(r)
	if err != nil {
		c.node.log.Error("reply cannot be encoded", "client", c.id.String(), "err", err)
		c.close(push.CloseInternal)
		return
	}
	c.send(packet)
}

// fail answers cmd with the error that err stands for.
func (c *client) fail(cmd *protocol.Command, err error) {
	if code, ok := errors.AsType[closeError](err); ok {
		c.close(code.CloseCode)
		return
	}
	answer, known := errors.AsType[clientError](err)
	if !known {
		answer = errInternal
		c.node.metrics.errors.Inc()
		c.node.log.Warn("command failed", "client", c.id.String(), "command", commandName(cmd), "err", err)
	}
	c.reply(cmd.Id, &protocol.Reply{Error: &protocol.Error{
		Code: answer.code, Message: answer.message, Temporary: answer.temporary,
	}})
}

func commandName(cmd *protocol.Command) string {
	switch {
	case cmd.Connect != nil:
		return "connect"
	case cmd.Subscribe != nil:
		return "subscribe"
	case cmd.Unsubscribe != nil:
		return "unsubscribe"
	case cmd.Refresh != nil:
		return "refresh"
	case cmd.Rpc != nil:
		return "rpc"
	}
	return "other"
}
