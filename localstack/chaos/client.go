package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/centrifugal/centrifuge-go"

	"pushcluster/shared/push"
	"pushcluster/shared/token"
)

// A client is one device of a user, or one without a device id, with the
// official SDK for Go. It records what it receives.
type client struct {
	w        *world
	name     string
	user     push.UserID
	device   push.Device
	rooms    []push.Channel // by its token
	public   []string       // subscribed by itself
	protobuf bool
	token    string
	slow     bool // the kernel is to take little for it

	mu        sync.Mutex // guards what follows
	home      int        // the node that it is sent to while that is up
	sticky    bool       // it goes there whether that is up or not
	away      bool       // it reaches none
	sdk       *centrifuge.Client
	line      *line
	conn      uint32 // number of the present or last connection
	connected bool
	subs      int // public channels that it is subscribed to now
	followers map[string]*follower
}

// newClient makes a client that [client.connect] brings in.
func (w *world) newClient(i int, user push.UserID, device push.Device, rooms []push.Channel, public []string) (*client, error) {
	c := &client{w: w, name: fmt.Sprintf("client%d", i), user: user, device: device, rooms: rooms, public: public,
		protobuf: i%2 == 1, home: i % nodeCount, followers: make(map[string]*follower)}
	var err error
	c.token, _, err = w.cluster.minter.Mint(token.Grant{User: user, TTL: 2 * time.Hour, Channels: rooms})
	if err != nil {
		return nil, err
	}
	for _, ch := range append([]push.Channel{push.Personal(user), push.All}, rooms...) {
		c.followers[string(ch)] = w.ledger.follow(string(ch), c.name)
	}
	for _, ch := range public {
		c.followers[ch] = w.ledger.follow(ch, c.name)
	}
	return c, nil
}

// connect begins a new life of the client: a page is opened. The SDK comes
// back by itself from then on.
func (c *client) connect() error {
	cfg := centrifuge.Config{
		Token:              c.token,
		HandshakeTimeout:   8 * time.Second,
		ReadTimeout:        8 * time.Second,
		MinReconnectDelay:  100 * time.Millisecond,
		MaxReconnectDelay:  2 * time.Second,
		MaxServerPingDelay: 5 * time.Second,
		NetDialContext:     c.dial,
	}
	if c.slow {
		cfg.MaxServerPingDelay = time.Minute // it does not leave by itself
	}
	if c.device != "" {
		cfg.Data = fmt.Appendf(nil, `{"device":%q}`, c.device)
	}
	sdk := centrifuge.NewJsonClient
	if c.protobuf {
		sdk = centrifuge.NewProtobufClient
	}
	// The address never matters: dial is the balancer.
	s := sdk("ws://cluster.invalid/connection/websocket", cfg)
	s.OnConnected(func(centrifuge.ConnectedEvent) { c.opened() })
	s.OnConnecting(func(e centrifuge.ConnectingEvent) { c.closed(e.Code, e.Reason, true) })
	s.OnDisconnected(func(e centrifuge.DisconnectedEvent) { c.closed(e.Code, e.Reason, false) })
	s.OnSubscribed(func(e centrifuge.ServerSubscribedEvent) { c.subscribed(e.Channel, e.StreamPosition) })
	s.OnPublication(func(e centrifuge.ServerPublicationEvent) { c.take(e.Channel, e.Publication) })
	c.mu.Lock()
	c.sdk = s
	c.mu.Unlock()
	for _, ch := range c.public {
		if err := c.subscribe(s, ch); err != nil {
			return err
		}
	}
	return s.Connect()
}

func (c *client) subscribe(s *centrifuge.Client, channel string) error {
	sub, err := s.NewSubscription(channel, centrifuge.SubscriptionConfig{
		Recoverable: true, MinResubscribeDelay: 100 * time.Millisecond, MaxResubscribeDelay: 2 * time.Second})
	if err != nil {
		return err
	}
	sub.OnSubscribed(func(e centrifuge.SubscribedEvent) {
		c.mu.Lock()
		c.subs++
		c.mu.Unlock()
		c.subscribed(channel, e.StreamPosition)
	})
	sub.OnSubscribing(func(centrifuge.SubscribingEvent) {
		c.mu.Lock()
		c.subs = max(0, c.subs-1)
		c.mu.Unlock()
	})
	sub.OnPublication(func(e centrifuge.PublicationEvent) { c.take(channel, e.Publication) })
	return sub.Subscribe()
}

// leave closes the page: nothing of this life comes back.
func (c *client) leave() {
	c.mu.Lock()
	s := c.sdk
	c.sdk, c.connected, c.subs = nil, false, 0
	c.mu.Unlock()
	if s != nil {
		s.Close()
	}
}

// drop breaks the client's line, as a tunnel does.
func (c *client) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.line != nil {
		c.line.Close()
	}
}

// goAway breaks the client's line and lets it have no other, until the returned
// function is called.
func (c *client) goAway() (comeBack func()) {
	set := func(away bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.away = away
	}
	set(true)
	c.drop()
	return func() { set(false) }
}

// errAway is what a client gets that reaches no node.
var errAway = errors.New("the network is away")

// whole reports whether the client is connected and subscribed to everything.
func (c *client) whole() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connected && c.subs == len(c.public)
}

// sdkRace is the SDK's reason for code 1 where it answers a ping after it has
// read the node's close frame: a WebSocket takes no more writes then, and the
// SDK takes that for the reason of the end.
const sdkRace = "write error"

func (c *client) opened() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn++
	c.connected = true
}

// closed notes why a connection ended. The SDK's own codes are below 3000.
func (c *client) closed(code uint32, reason string, returns bool) {
	c.mu.Lock()
	was := c.connected
	c.connected = false
	over := c.sdk == nil // it left by itself
	c.mu.Unlock()
	if reason == sdkRace {
		c.w.raced.Add(1)
	}
	if was || code >= 3000 {
		c.w.closes.add(code)
		c.w.ledger.ended(c.name, c.home%nodeCount, code, reason)
		c.w.ended.add()
	}
	if !returns && !over {
		c.w.ledger.note("%s was sent away for good: %d %s", c.name, code, reason)
		c.w.banished.Add(1)
	}
}

func (c *client) subscribed(channel string, at *centrifuge.StreamPosition) {
	f := c.followers[channel]
	if f == nil {
		return
	}
	if at != nil {
		f.told(at.Offset)
	}
	if _, personal := push.Channel(channel).User(); !personal || c.device == "" {
		f.starts()
	}
}

// take records a publication.
func (c *client) take(channel string, p centrifuge.Publication) {
	id := p.Tags["id"]
	n, err := strconv.ParseUint(id[strings.LastIndexByte(id, '-')+1:], 10, 32)
	f := c.followers[channel]
	if err != nil || f == nil {
		c.w.ledger.note("%s got a message that nobody posted: %q in %q", c.name, id, channel)
		return
	}
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	c.w.deliveries.Add(1)
	f.take(uint32(n), p.Offset, conn)
}

// dial is the balancer: it connects to the client's own node while that is up,
// else to another one that is.
func (c *client) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	c.mu.Lock()
	home, sticky, away := c.home, c.sticky, c.away
	c.mu.Unlock()
	if away {
		return nil, errAway
	}
	nodes := c.w.cluster.nodes
	target := nodes[home%len(nodes)]
	for i := 0; !sticky && i < len(nodes); i++ {
		if n := nodes[(home+i)%len(nodes)]; n.up.Load() {
			target = n
			break
		}
	}
	d := net.Dialer{Timeout: 3 * time.Second}
	if c.slow {
		d.Control = func(_, _ string, raw syscall.RawConn) error { return raw.Control(smallBuffer) }
	}
	conn, err := d.DialContext(ctx, network, target.public)
	if err != nil {
		return nil, err
	}
	l := &line{Conn: conn, w: c.w}
	l.flowing.L = &l.mu
	c.mu.Lock()
	c.line = l
	c.mu.Unlock()
	return l, nil
}

// stall makes the client read nothing more from its present connection, until
// the returned function is called.
func (c *client) stall() (resume func()) {
	c.mu.Lock()
	l := c.line
	c.mu.Unlock()
	l.hold(true)
	return func() { l.hold(false) }
}

// A line is a connection whose reading can be stopped.
type line struct {
	net.Conn
	w *world

	mu      sync.Mutex // guards what follows
	stopped bool
	flowing sync.Cond
}

func (l *line) hold(stop bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = stop
	l.flowing.Broadcast()
}

// Close also ends a read that is held up: with nothing.
func (l *line) Close() error {
	defer l.hold(false)
	return l.Conn.Close()
}

// Read waits while the line is stopped.
func (l *line) Read(b []byte) (int, error) {
	l.mu.Lock()
	for l.stopped {
		l.flowing.Wait()
	}
	l.mu.Unlock()
	return l.Conn.Read(b)
}
