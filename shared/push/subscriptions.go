package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Limits of orders about connections.
const (
	maxClient        = 64      // bytes of a connection's id
	maxExcept        = 50      // connections that a disconnect spares
	maxSubscribeData = 2 << 10 // bytes that go with a subscription
)

// A Position is a place in a channel as clients name it.
type Position struct {
	Offset Offset `json:"offset,omitempty"`
	Epoch  string `json:"epoch,omitempty"` // empty matches any
}

// A SubscribeRequest subscribes the connections that a user has now, or one of
// them, to a topic: POST /v1/node/subscribe on one node, POST
// /v1/dispatch/subscribe on all. The subscription is the server's: the client
// cannot end it, and it ends with the connection.
type SubscribeRequest struct {
	User    UserID  `json:"user"`
	Channel Channel `json:"channel"`
	Client  string  `json:"client,omitempty"` // the connection's id as its client knows it; empty: every one
	// Since is where the connections start; nil: where their devices were, or at
	// now.
	Since *Position `json:"since,omitempty"`
	// Data goes to the client with the news of it: any JSON value, or none.
	Data json.RawMessage `json:"data,omitempty"`
}

// Check returns nil if r can be carried out, else an error that says why not.
func (r *SubscribeRequest) Check() error {
	var data error
	if len(r.Data) > maxSubscribeData {
		data = fmt.Errorf("data is %d bytes, more than %d", len(r.Data), maxSubscribeData)
	}
	return errors.Join(r.User.Check(), r.Channel.CheckTopic(), checkClient(r.Client), data)
}

// An UnsubscribeRequest ends the subscriptions that a user's connections have to
// a topic, whoever made them: POST /v1/node/unsubscribe on one node, POST
// /v1/dispatch/unsubscribe on all.
type UnsubscribeRequest struct {
	User    UserID  `json:"user"`
	Channel Channel `json:"channel"`
	Client  string  `json:"client,omitempty"` // as in SubscribeRequest
}

// Check returns nil if r can be carried out, else an error that says why not.
func (r *UnsubscribeRequest) Check() error {
	return errors.Join(r.User.Check(), r.Channel.CheckTopic(), checkClient(r.Client))
}

// A SubscriptionAnswer says how many connections are subscribed now, or were
// until now.
type SubscriptionAnswer struct {
	Connections int `json:"connections"`
	// Refused are connections that could not be subscribed: they have as many
	// subscriptions as they may, or the position could not be read.
	Refused    int      `json:"refused,omitempty"`
	Unanswered []NodeID `json:"unanswered,omitempty"` // of Dispatch: nodes that may have done it or not
}

// checkClient returns nil if id is empty or one that a connection may have.
func checkClient(id string) error {
	if len(id) > maxClient || !utf8.ValidString(id) {
		return fmt.Errorf("client: no connection has an id of %d bytes", len(id))
	}
	return nil
}
