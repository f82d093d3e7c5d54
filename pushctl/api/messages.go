package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"pushcluster/shared/push"
)

// A Message is one to be sent. Empty fields are left out.
type Message struct {
	To          push.Recipients `json:"to"`
	Data        json.RawMessage `json:"data"`
	Event       string          `json:"event,omitempty"`
	TTL         string          `json:"ttl,omitempty"`
	CollapseKey string          `json:"collapse_key,omitempty"`
	DeliverAt   string          `json:"deliver_at,omitempty"`
	ID          string          `json:"id,omitempty"`
}

// Accepted is the answer to one message: an id, or a problem's code and detail.
type Accepted struct {
	ID     push.MessageID `json:"id"`
	Code   push.Code      `json:"code"`
	Detail string         `json:"detail"`
}

// Repeated reports whether an answer says that the same had been accepted
// before.
func Repeated(h http.Header) bool { return h.Get("Idempotent-Replayed") == "true" }

// Send sends one message.
func (c *Client) Send(ctx context.Context, m Message) (Answer[Accepted], error) {
	return do[Accepted](ctx, c, call{to: c.collect(), method: "POST", path: "/v1/messages", has: []string{"id"}, body: encode(m)})
}

// SendAll sends an array of messages, as it is; there is an answer for each.
func (c *Client) SendAll(ctx context.Context, array []byte) (Answer[[]Item[Accepted]], error) {
	return do[[]Item[Accepted]](ctx, c, call{to: c.collect(), method: "POST", path: "/v1/messages", has: []string{"id", "code"}, body: array})
}

// A MessageState is one page of what is known of a message.
type MessageState struct {
	ID         push.MessageID `json:"id"`
	Event      string         `json:"event"`
	CreatedAt  time.Time      `json:"created_at"`
	ExpiresAt  time.Time      `json:"expires_at"`
	State      string         `json:"state"`
	Recipients []struct {
		Channel push.Channel `json:"channel"`
		Offset  push.Offset  `json:"offset"`
		State   string       `json:"state"`
		Devices []struct {
			User   push.UserID `json:"user"`
			Device push.Device `json:"device"`
			State  string      `json:"state"`
			At     time.Time   `json:"at"`
		} `json:"devices"`
	} `json:"recipients"`
	Next string `json:"next"`
}

// Message asks what became of a message; next is that of the page before, or
// empty.
func (c *Client) Message(ctx context.Context, id, next string) (Answer[MessageState], error) {
	return do[MessageState](ctx, c, call{to: c.collect(), method: "GET", path: "/v1/messages/" + segment(id) + query("next", next), has: []string{"id"}})
}

// A Changed says what an order made of a message.
type Changed struct {
	ID    push.MessageID `json:"id"`
	State string         `json:"state"`
}

// Cancel takes a scheduled message back.
func (c *Client) Cancel(ctx context.Context, id string) (Answer[Changed], error) {
	return do[Changed](ctx, c, call{to: c.collect(), method: "DELETE", path: "/v1/messages/" + segment(id), has: []string{"id"}})
}

// A ParkedPage is one page of what could not be delivered.
type ParkedPage struct {
	Parked []Item[Parked] `json:"parked"`
	Next   string         `json:"next"`
}

// A Parked is a message that could not be delivered.
type Parked struct {
	ID       push.MessageID `json:"id"`
	Reason   string         `json:"reason"`
	Attempts int            `json:"attempts"`
	ParkedAt time.Time      `json:"parked_at"`
}

// Parked lists what could not be delivered; next is that of the page before, or
// empty.
func (c *Client) Parked(ctx context.Context, next string) (Answer[ParkedPage], error) {
	return do[ParkedPage](ctx, c, call{to: c.collect(), method: "GET", path: "/v1/parked" + query("next", next), has: []string{"parked"}})
}

// ReplayParked has a parked message tried again.
func (c *Client) ReplayParked(ctx context.Context, id string) (Answer[Changed], error) {
	return do[Changed](ctx, c, call{to: c.collect(), method: "POST", path: "/v1/parked/" + segment(id) + "/replay", has: []string{"id"}})
}

// DiscardParked gives a parked message up.
func (c *Client) DiscardParked(ctx context.Context, id string) (Answer[Changed], error) {
	return do[Changed](ctx, c, call{to: c.collect(), method: "DELETE", path: "/v1/parked/" + segment(id), has: []string{"id"}})
}
