package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/centrifugal/protocol"
	"golang.org/x/sync/errgroup"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// What business systems subscribe connections to while they are open.

const (
	maxOrder = 8 << 10 // bytes of an order's body
	// ordersAtOnce is on how many connections of one user one order is carried out
	// at a time. It has a place in the line of each, so beyond that many a slow
	// one holds up others.
	ordersAtOnce = 256
)

// serverUnsubscribe is what a client is told whose subscription the server ends.
// Below 2500 it does not subscribe again by itself.
var serverUnsubscribe = &protocol.Unsubscribe{Code: 2000, Reason: "server unsubscribe"}

// errSubscriptionEnded means that a subscription ended before its client heard of
// it.
var errSubscriptionEnded = errors.New("the subscription has ended")

// subscribeUser subscribes a user's connections here to a topic: POST
// /v1/node/subscribe.
func (n *Node) subscribeUser(w http.ResponseWriter, r *http.Request) {
	var req push.SubscribeRequest
	if p := serve.Decode(w, r, maxOrder, &req); p != nil {
		serve.Problem(w, r, p)
		return
	}
	if err := req.Check(); err != nil {
		serve.Problem(w, r, push.NewProblem(push.CodeBadRequest, "%v", err))
		return
	}
	var data bytes.Buffer // on one line: frames are cut at line feeds
	if json.Compact(&data, req.Data) == nil {
		req.Data = data.Bytes()
	}
	ctx, cancel := context.WithTimeout(r.Context(), n.cfg.CommandTimeout)
	defer cancel()
	var (
		mu     sync.Mutex // guards answer
		answer push.SubscriptionAnswer
		g      errgroup.Group
	)
	g.SetLimit(ordersAtOnce)
	clients, turns := n.lineUp(ctx, req.User, req.Client)
	for i, c := range clients {
		g.Go(func() error {
			err := turns[i].await(ctx)
			if err == nil {
				defer turns[i].over()
				err = c.subscribeByServer(ctx, &req)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil || errors.Is(err, errAlreadySubscribed):
				answer.Connections++
			case c.isClosing() || errors.Is(err, errSubscriptionEnded):
			default:
				answer.Refused++
				n.log.Warn("order to subscribe not carried out", "client", c.id.String(), "err", err)
			}
			return nil
		})
	}
	_ = g.Wait() // none of them returns an error
	serve.JSON(w, http.StatusOK, answer)
}

// unsubscribeUser ends the subscriptions of a user's connections here to a
// topic: POST /v1/node/unsubscribe.
func (n *Node) unsubscribeUser(w http.ResponseWriter, r *http.Request) {
	var req push.UnsubscribeRequest
	if p := serve.Decode(w, r, maxOrder, &req); p != nil {
		serve.Problem(w, r, p)
		return
	}
	if err := req.Check(); err != nil {
		serve.Problem(w, r, push.NewProblem(push.CodeBadRequest, "%v", err))
		return
	}
	var (
		had atomic.Int64 // connections that were subscribed
		g   errgroup.Group
	)
	g.SetLimit(ordersAtOnce)
	// Also where the caller has gone: what has begun is ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), n.cfg.CommandTimeout)
	defer cancel()
	clients, turns := n.lineUp(ctx, req.User, req.Client)
	for i, c := range clients {
		g.Go(func() error {
			if turns[i].await(ctx) == nil {
				defer turns[i].over()
			} // else out of turn: to end is not put off for ever
			if c.unsubscribeByServer(req.Channel) {
				had.Add(1)
			}
			return nil
		})
	}
	_ = g.Wait() // none of them returns an error
	serve.JSON(w, http.StatusOK, push.SubscriptionAnswer{Connections: int(had.Load())})
}

// lineUp returns those of clientsNamed, and a place in the line of each: an order
// that comes later finds what this one has done.
func (n *Node) lineUp(ctx context.Context, user push.UserID, id string) (clients []*client, turns []turn) {
	clients = n.clientsNamed(ctx, user, id)
	for _, c := range clients {
		turns = append(turns, c.lineUp())
	}
	return clients, turns
}

// clientsNamed returns the connections of user that have connected, or the one
// of them with this id. One whose client may know already that it has, because
// its reply is being written, is waited for.
func (n *Node) clientsNamed(ctx context.Context, user push.UserID, id string) []*client {
	var list []*client
	for _, c := range n.clientsOf(user) {
		c.mu.Lock()
		connected := c.since != 0
		c.mu.Unlock()
		if !connected || id != "" && id != c.id.String() {
			continue
		}
		if c.awaitGreeted(ctx) {
			list = append(list, c)
		}
	}
	return list
}

// subscribeByServer subscribes the client to a topic as its token could have,
// and tells it; it is the caller's turn. What it lacks follows as ordinary publications.
func (c *client) subscribeByServer(ctx context.Context, req *push.SubscribeRequest) error {
	c.mu.Lock()
	have, given := c.following(req.Channel) != nil, 0
	for _, f := range c.subs {
		if f.server {
			given++
		}
	}
	c.mu.Unlock()
	switch {
	case have:
		return errAlreadySubscribed
	case given >= c.node.cfg.MaxSubscriptions:
		return errLimitExceeded
	}
	if err := c.awaitRoom(ctx); err != nil {
		return err
	}
	j := &join{server: true, maxBytes: pageBytes}
	if req.Since != nil {
		j.position = &position{req.Since.Offset, req.Since.Epoch}
	}
	cursors, err := c.loadCursors(ctx)
	if err != nil {
		return err
	}
	if cur, ok := cursors[req.Channel]; ok {
		j.cursor = &cur
	}
	if err = c.join(ctx, req.Channel, j); err == nil {
		err = c.keepNewCursors(ctx, []*join{j}, cursors)
	}
	if err != nil {
		c.undo(j)
		return err
	}
	if j.sub.Ended() {
		return errSubscriptionEnded // by another order, or with the connection
	}
	c.tell(&protocol.Push{Channel: string(req.Channel), Subscribe: &protocol.Subscribe{
		Recoverable: true, Positioned: true, Epoch: c.node.epoch, Offset: uint64(j.start), Data: protocol.Raw(req.Data),
	}})
	for _, e := range j.missed {
		c.tell(&protocol.Push{Channel: string(req.Channel), Pub: hub.Wire(e)})
	}
	c.release(j)
	return nil
}

// unsubscribeByServer ends the client's subscription to a topic and tells it; it
// is the caller's turn. It reports whether there was one.
func (c *client) unsubscribeByServer(name push.Channel) bool {
	if !c.leave(name) {
		return false
	}
	c.tell(&protocol.Push{Channel: string(name), Unsubscribe: serverUnsubscribe})
	c.forgetPlace(name)
	return true
}

// tell sends the client news that no command asked for.
func (c *client) tell(news *protocol.Push) { c.reply(0, &protocol.Reply{Push: news}) }
