package node

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/centrifugal/protocol"
	"github.com/gorilla/websocket"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A client is one connection with what it said of itself and what it follows.
type client struct {
	*conn

	// Fixed by newClient.
	node      *Node
	id        string // the connection's id, as clients see it
	device    push.Device
	opened    time.Time
	framePing bool // pings are WebSocket ping frames, not protocol pings
	hello     *push.Identity

	// Fixed before the client's first subscription.
	user push.UserID

	// Owned by the reader, which runs the commands one after another.
	refused time.Time // connect was answered with an error; nothing more is heard

	connected  atomic.Bool   // the connect command succeeded
	greeted    chan struct{} // closed when the reply to connect is queued, and news may follow it
	recovering chan struct{} // holds a token while a recovery reads and writes a page

	mu        sync.Mutex // guards what follows; not held while sending
	identity  push.Identity
	subs      map[push.Channel]*following
	ended     bool
	since     time.Time // when the connect command succeeded
	nextPing  time.Time
	pingSent  time.Time // zero: no ping is outstanding
	pingFirst time.Time // when the last ping went out, for the once-a-second rule
	noted     []noted
	refusedAt time.Time
}

// following is a client's subscription to one channel.
type following struct {
	sub    *hub.Subscription
	server bool        // subscribed by the server: the client cannot end it
	told   bool        // the reply that holds what it recovered is queued
	proven push.Offset // a pong proved that the client has everything up to here
}

// noted is how far a client was given a channel when a ping was sent.
type noted struct {
	sub    *hub.Subscription
	cursor store.Cursor
}

// run reads the connection until it ends and gives up everything that the
// client held. It returns why reading ended.
func (c *client) run(ctx context.Context) error {
	defer c.end()
	c.ws.SetReadLimit(c.node.cfg.MaxFrame)
	c.ws.SetPingHandler(c.answerPing)
	c.ws.SetPongHandler(func(string) error {
		if c.framePing {
			c.pong()
		}
		return nil
	})
	c.ws.SetCloseHandler(func(int, string) error {
		c.close(push.CloseNormal) // answers the peer's close frame
		return nil
	})
	for {
		messageType, frame, err := c.ws.ReadMessage()
		if errors.Is(err, websocket.ErrReadLimit) {
			c.sock.linger(c.limits.closeTimeout)
		}
		if err != nil {
			return err
		}
		if messageType != c.codec.messageType {
			c.close(push.CloseBadRequest)
			continue
		}
		commands, err := c.codec.decodeCommands(frame)
		if err != nil {
			c.node.metrics.badFrames.Inc()
			c.close(push.CloseBadRequest)
			continue
		}
		for _, cmd := range commands {
			c.handle(ctx, cmd)
		}
	}
}

// end gives up the client's subscriptions and place in the node.
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
func (c *client) handle(ctx context.Context, cmd *protocol.Command) {
	if !c.refused.IsZero() || c.isClosing() {
		return // the client will close, or is being closed
	}
	if cmd.Id == 0 && cmd.Send == nil {
		c.protocolPong(cmd)
		return
	}
	if !c.connected.Load() && cmd.Connect == nil {
		c.close(push.CloseBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.node.cfg.CommandTimeout)
	defer cancel()
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
func (c *client) protocolPong(cmd *protocol.Command) {
	if cmd.Connect != nil || cmd.Subscribe != nil || cmd.Rpc != nil || !c.pong() {
		c.close(push.CloseBadRequest)
	}
}

// reply sends the answer to the command id.
func (c *client) reply(id uint32, r *protocol.Reply) {
	r.Id = id
	packet, err := c.codec.encode(r)
	if err != nil {
		c.node.log.Error("reply cannot be encoded", "client", c.id, "err", err)
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
		c.node.log.Warn("command failed", "client", c.id, "command", commandName(cmd), "err", err)
	}
	c.reply(cmd.Id, &protocol.Reply{Error: &protocol.Error{
		Code: answer.code, Message: answer.message, Temporary: answer.temporary,
	}})
}

func (c *client) isClosing() bool {
	c.conn.mu.Lock()
	defer c.conn.mu.Unlock()
	return c.closing
}

// follow records the subscription. It reports false if the client has ended or
// follows the channel already; the caller then ends f.sub.
func (c *client) follow(channel push.Channel, f *following) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.subs[channel] != nil {
		return false
	}
	c.subs[channel] = f
	return true
}

// unfollow removes the client's record of channel and returns it, nil if none.
func (c *client) unfollow(channel push.Channel) *following {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.subs[channel]
	delete(c.subs, channel)
	return f
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
