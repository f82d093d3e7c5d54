package node

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/centrifugal/protocol"

	"pushcluster/pushnode/verify"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// rejectUnrecovered is the bit of a subscribe command's flag by which a client
// asks for an error rather than a subscription that could not be recovered.
const rejectUnrecovered = 2

// publicPrefix starts the topics that every client may subscribe to.
const publicPrefix = "public:"

// subscribe runs the subscribe command for a topic.
func (c *client) subscribe(ctx context.Context, cmd *protocol.Command) error {
	req := cmd.Subscribe
	name := push.Channel(strings.Clone(req.Channel)) // the JSON decoder's strings hold on to the frame
	switch {
	case req.Type != 0:
		return errNotAvailable // map and poll subscriptions
	case req.Tf != nil || name.Check() != nil:
		return errBadRequest
	}
	t := c.lineUp()
	if err := t.await(ctx); err != nil {
		return err
	}
	defer t.over()
	c.mu.Lock()
	topics, have, own := c.rights.topics(), c.following(name) != nil, 0
	for _, f := range c.subs {
		if !f.server {
			own++
		}
	}
	c.mu.Unlock()
	switch {
	case have:
		return errAlreadySubscribed
	case !mayFollow(topics, name):
		return errPermissionDenied
	case own >= c.node.cfg.MaxSubscriptions:
		return errLimitExceeded
	}
	if err := c.awaitRoom(ctx); err != nil {
		return err
	}
	j := &join{position: wanted(req), maxBytes: pageBytes}
	cursors, err := c.loadCursors(ctx)
	if err != nil {
		return err
	}
	if cur, ok := cursors[name]; ok {
		j.cursor = &cur
	}
	err = c.join(ctx, name, j)
	if err == nil && req.Flag&rejectUnrecovered != 0 && j.position != nil && !j.recovered {
		err = errUnrecoverable
	}
	if err == nil {
		err = c.keepNewCursors(ctx, []*join{j}, cursors)
	}
	if err != nil {
		c.undo(j)
		return err
	}
	c.reply(cmd.Id, &protocol.Reply{Subscribe: j.result(c.node.epoch)})
	c.release(j)
	return nil
}

// awaitRoom waits until the queue has room for a page: a client that subscribes
// to many topics at once gets their backlogs one after another.
func (c *client) awaitRoom(ctx context.Context) error {
	if c.queued() < c.node.cfg.QueueBytes/2 {
		return nil
	}
	select {
	case <-c.idle():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// mayFollow reports whether a client may subscribe to the topic name itself:
// public ones, and those its token names, one by one or by prefix.
func mayFollow(topics []string, name push.Channel) bool {
	if name.CheckTopic() != nil {
		return false
	}
	if strings.HasPrefix(string(name), publicPrefix) {
		return true
	}
	for _, topic := range topics {
		if prefix, ok := strings.CutSuffix(topic, "*"); ok && strings.HasPrefix(string(name), prefix) || topic == string(name) {
			return true
		}
	}
	return false
}

// unsubscribe runs the unsubscribe command. SDKs take an error for a broken
// connection, so there is none. What the server subscribed stays.
func (c *client) unsubscribe(ctx context.Context, req *protocol.UnsubscribeRequest) (*protocol.Reply, error) {
	name := push.Channel(req.Channel)
	if t := c.lineUp(); t.await(ctx) == nil {
		defer t.over()
	} // else out of turn: to end is not put off for ever
	c.mu.Lock()
	f := c.following(name)
	own := f != nil && !f.server
	c.mu.Unlock()
	if own {
		c.leave(name)
		c.forgetPlace(name)
	}
	return &protocol.Reply{Unsubscribe: &protocol.UnsubscribeResult{}}, nil
}

// forgetPlace removes the cursor of the client's device in a channel that it has
// left: who unsubscribes does not want what comes until the next time. It has a
// command's time for itself, however long the turn was waited for.
func (c *client) forgetPlace(name push.Channel) {
	if c.device == "" {
		return
	}
	ctx, cancel := context.WithTimeout(c.node.background(), c.node.cfg.CommandTimeout)
	defer cancel()
	if err := c.node.cursors.remove(ctx, c.user, c.device, name); err != nil {
		c.node.log.Warn("cursor not removed", "client", c.id.String(), "err", err)
	}
}

// refresh runs the refresh command: a new token for the same user.
func (c *client) refresh(ctx context.Context, req *protocol.RefreshRequest) (*protocol.Reply, error) {
	if req.Token == "" {
		return nil, closeError{push.CloseInvalidToken}
	}
	identity, err := c.node.verifier.Verify(ctx, req.Token)
	switch {
	case errors.Is(err, verify.ErrExpired):
		return nil, closeError{push.CloseExpired}
	case errors.Is(err, verify.ErrInvalid):
		return nil, closeError{push.CloseInvalidToken}
	case err != nil:
		return nil, err
	}
	c.mu.Lock()
	same := identity.User == c.user
	if same {
		c.rights = rightsOf(&identity)
		c.stir()
	}
	c.mu.Unlock()
	// A revocation finds this token on the connection now, or is found here.
	if !same || c.node.verifier.Revoked(&identity) {
		return nil, closeError{push.CloseInvalidToken}
	}
	result := &protocol.RefreshResult{Client: c.id.String()}
	result.Expires, result.Ttl = c.node.lifetime(&identity)
	return &protocol.Reply{Refresh: result}, nil
}

// rpc runs the rpc command. There is one method, ack: the client's application
// has dealt with everything in a channel up to an offset.
func (c *client) rpc(req *protocol.RPCRequest) (*protocol.Reply, error) {
	if req.Method != "ack" {
		return nil, errMethodNotFound
	}
	var ack struct {
		Channel push.Channel `json:"channel"`
		Offset  push.Offset  `json:"offset"`
	}
	if json.Unmarshal(req.Data, &ack) != nil || c.device == "" {
		return nil, errBadRequest
	}
	// Held until it is noted: whoever has left the channel has no cursor in it.
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.following(ack.Channel)
	if f == nil {
		return nil, errBadRequest
	}
	offset := min(ack.Offset, f.sub.Pos()) // nobody acknowledges what they were not given
	if !c.node.cursors.advance(store.Cursor{
		User: c.user, Device: c.device, Channel: ack.Channel,
		Received: offset, Acknowledged: offset, UpdatedAt: c.node.now(),
	}) {
		return nil, errInternal
	}
	return &protocol.Reply{Rpc: &protocol.RPCResult{Data: protocol.Raw(`{}`)}}, nil
}
