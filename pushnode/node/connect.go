package node

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/centrifugal/protocol"
	"golang.org/x/sync/errgroup"

	"pushcluster/pushnode/verify"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// connect runs the connect command: who is it, which channels does the server
// subscribe it to, and what did it miss in them. The reply goes out first, then
// what arrived meanwhile.
func (c *client) connect(ctx context.Context, cmd *protocol.Command) error {
	if c.connected.Load() {
		return closeError{push.CloseBadRequest}
	}
	err := c.tryConnect(ctx, cmd)
	if err == nil {
		c.node.metrics.connected.Inc()
		return nil
	}
	c.node.metrics.connects.WithLabelValues(connectOutcome(err)).Inc()
	if _, ok := errors.AsType[closeError](err); !ok {
		c.refused = true
		c.mu.Lock()
		c.pass().refusedAt = c.node.moment(time.Now())
		c.mu.Unlock()
		c.stir()
	}
	return err
}

func connectOutcome(err error) string {
	if code, ok := errors.AsType[closeError](err); ok {
		return code.Reason
	}
	if answer, ok := errors.AsType[clientError](err); ok {
		return answer.message
	}
	return errInternal.message
}

func (c *client) tryConnect(ctx context.Context, cmd *protocol.Command) error {
	req := cmd.Connect
	identity, err := c.identify(ctx, req.Token)
	if err != nil {
		return err
	}
	if err := c.takeDevice(req.Data); err != nil {
		return err
	}
	// Its text holds the user's name, too, for as long as the connection lasts.
	personal := push.Personal(identity.User)
	if !c.node.enroll(c, identity, personal) {
		return closeError{push.CloseShutdown}
	}
	cursors, err := c.loadCursors(ctx)
	if err != nil {
		return err
	}
	a := arrivals.Get().(*arrival)
	defer a.over()
	if err := c.joinAll(ctx, a, append(append(a.channels, personal, push.All), identity.Channels...), req.Subs, cursors); err != nil {
		return err
	}
	if err := c.keepNewCursors(ctx, a.all, cursors); err != nil {
		return err
	}
	a.welcome = welcome{
		command: cmd.Id, client: c.id, version: c.node.cfg.Version, epoch: c.node.epoch, joins: a.all,
		ping: uint32(c.node.cfg.PingInterval / time.Second),
	}
	a.welcome.expires, a.welcome.ttl = c.node.lifetime(identity)
	now := c.node.now()
	c.mu.Lock()
	c.since = now.UnixNano()
	c.nextPing = c.node.moment(time.Now()).after(c.node.cfg.PingInterval/2 + rand.N(c.node.cfg.PingInterval/2+1))
	c.mu.Unlock()
	c.welcome(&a.welcome)
	c.connected.Store(true) // pings may follow the reply now
	c.stir()
	c.greet()
	for _, j := range a.all {
		c.release(j)
	}
	return nil
}

// greet lets news follow the reply to connect.
func (c *client) greet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.greeted = true
	p := c.pass()
	if p.greeting != nil {
		close(p.greeting)
		p.greeting = nil
	}
	p.hello = push.Identity{}
	c.passed()
}

// awaitGreeted waits until news may be sent, and reports whether it may.
func (c *client) awaitGreeted(ctx context.Context) bool {
	c.mu.Lock()
	if c.greeted {
		c.mu.Unlock()
		return true
	}
	if c.pass().greeting == nil {
		c.passing.greeting = make(chan struct{})
	}
	greeting := c.passing.greeting
	c.mu.Unlock()
	select {
	case <-greeting:
		return true
	case <-ctx.Done():
		return false
	}
}

// identify returns who the token, or without one the handshake, says it is.
// What it returns is good until the client is greeted.
func (c *client) identify(ctx context.Context, token string) (*push.Identity, error) {
	if token == "" {
		c.mu.Lock()
		hello := &c.pass().hello
		c.mu.Unlock()
		if hello.User == "" {
			return nil, closeError{push.CloseInvalidToken}
		}
		return hello, nil
	}
	identity, err := c.node.verifier.Verify(ctx, token)
	switch {
	case errors.Is(err, verify.ErrExpired):
		return nil, errTokenExpired
	case errors.Is(err, verify.ErrInvalid):
		return nil, closeError{push.CloseInvalidToken}
	}
	return &identity, err // what else there is counts as temporary: clients come back
}

// takeDevice takes the device id from the connect command's data, where the
// handshake named none.
func (c *client) takeDevice(data []byte) error {
	if len(data) == 0 || c.device != "" {
		return nil
	}
	var d struct {
		Device push.Device `json:"device"`
	}
	if json.Unmarshal(data, &d) != nil {
		return nil // data is the application's; it need not be an object
	}
	if d.Device.Check() != nil {
		return errBadRequest
	}
	c.mu.Lock() // the sweep looks at it
	c.device = d.Device
	c.mu.Unlock()
	return nil
}

// lifetime returns what a client is told of its token: whether it ends, and
// after how many seconds to bring a new one. That is a little before the end,
// so that a client that keeps to it is never cut off.
func (n *Node) lifetime(identity *push.Identity) (expires bool, ttl uint32) {
	if identity.ExpiresAt.IsZero() {
		return false, 0
	}
	left := identity.ExpiresAt.Sub(n.now())
	left -= min(5*time.Second, left/10)
	return true, uint32(min(max(1, left/time.Second), math.MaxUint32))
}

// minPageBytes is the least that the first page of one of many channels holds.
const minPageBytes = 4 << 10

// An arrival is what a connect command is carried out with. Its memory is used
// again for the next one.
type arrival struct {
	channels []push.Channel
	joins    []join  // of each channel once
	all      []*join // of joins, those that were entered
	reading  []*join // of those, the ones that need Redis
	reply    atomic.Int64
	welcome  welcome
}

var arrivals = sync.Pool{New: func() any { return new(arrival) }}

// maxKeptJoins is of how many channels the memory of an arrival is kept.
const maxKeptJoins = 16

// over gives the arrival's memory back.
func (a *arrival) over() {
	if cap(a.joins) > maxKeptJoins {
		return
	}
	clear(a.channels)
	clear(a.joins)
	clear(a.all)
	clear(a.reading)
	*a = arrival{channels: a.channels[:0], joins: a.joins[:0], all: a.all[:0], reading: a.reading[:0]}
	arrivals.Put(a)
}

// joinAll subscribes the client to the channels that the server chooses: its
// personal one, all, and what its token names. On error nothing stays subscribed.
func (c *client) joinAll(ctx context.Context, a *arrival, channels []push.Channel, asked map[string]*protocol.SubscribeRequest, cursors map[push.Channel]store.Cursor) error {
	a.channels = channels
	a.joins = slices.Grow(a.joins, len(a.channels)) // they do not move
	var err error
	for i, name := range a.channels {
		if slices.Contains(a.channels[:i], name) {
			continue
		}
		a.joins = append(a.joins, join{
			server: true, position: wanted(asked[string(name)]), maxBytes: max(pageBytes/len(a.channels), minPageBytes), reply: &a.reply,
		})
		j := &a.joins[len(a.joins)-1]
		if cur, ok := cursors[name]; ok {
			found := cur // on the heap only where there is one
			j.cursor = &found
		}
		if err = c.enter(name, j); err != nil {
			break
		}
		a.all = append(a.all, j)
		if !c.joinLive(j) {
			a.reading = append(a.reading, j)
		}
	}
	if err == nil {
		err = c.readAll(ctx, a.reading)
	}
	if err != nil {
		for _, j := range a.all {
			c.undo(j)
		}
	}
	return err
}

// readAll reads what joins need, all at once.
func (c *client) readAll(ctx context.Context, joins []*join) error {
	switch len(joins) {
	case 0:
		return nil
	case 1:
		return c.joinByReading(ctx, joins[0].name, joins[0])
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, j := range joins {
		g.Go(func() error { return c.joinByReading(ctx, j.name, j) })
	}
	return g.Wait()
}

// keepNewCursors records where a device starts in channels it was never seen
// in, before it is told: else it would start elsewhere after a page reload. If
// it has too many cursors then, its oldest go. Of the others it notes that they
// are in use, where that was not known for a while, and what they count for.
func (c *client) keepNewCursors(ctx context.Context, joins []*join, known map[push.Channel]store.Cursor) error {
	if c.device == "" {
		return nil
	}
	var fresh []store.Cursor
	now := c.node.now()
	for _, j := range joins {
		cur, ok := known[j.name]
		switch {
		case !ok:
			fresh = append(fresh, store.Cursor{User: c.user, Device: c.device, Channel: j.name, Received: j.start, Start: j.start, UpdatedAt: now})
		case j.start > cur.Received || now.Sub(cur.UpdatedAt) > touchEvery:
			cur.Received = max(cur.Received, j.start) // the position it came back with is proof as well
			cur.UpdatedAt = now
			c.node.cursors.advance(cur)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := c.node.store.AdvanceCursors(ctx, fresh); err != nil {
		return err
	}
	if slices.ContainsFunc(fresh, c.isPersonal) {
		c.node.trimmer.begins(store.UserDevice{User: c.user, Device: c.device})
	}
	c.forgetOldest(ctx, known, len(known)+len(fresh)-maxDeviceCursors)
	return nil
}
