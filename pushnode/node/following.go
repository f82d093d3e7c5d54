package node

import (
	"slices"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
)

// following is a client's subscription to one channel.
type following struct {
	sub    *hub.Subscription
	proven push.Offset // a pong proved that the client has everything up to here
	server bool        // subscribed by the server: the client cannot end it
	told   bool        // the reply that holds what it recovered is queued
}

// follow records the subscription. It reports false if the client has ended or
// follows the channel already; the caller then ends f.sub.
func (c *client) follow(f following) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.following(f.sub.Channel().Name()) != nil {
		return false
	}
	if c.subs == nil {
		c.subs = make([]following, 0, 2) // its personal channel and all
	}
	c.subs = append(c.subs, f)
	return true
}

// following returns the client's record of channel, nil if there is none. c.mu
// is held, and the record is good until it is released.
func (c *client) following(channel push.Channel) *following {
	for i := range c.subs {
		if c.subs[i].sub.Channel().Name() == channel {
			return &c.subs[i]
		}
	}
	return nil
}

// unfollow removes the client's record of channel and returns the subscription,
// nil if there is none.
func (c *client) unfollow(channel push.Channel) *hub.Subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.following(channel)
	if f == nil {
		return nil
	}
	sub := f.sub
	c.subs = slices.DeleteFunc(c.subs, func(f following) bool { return f.sub == sub })
	return sub
}
