package api

import (
	"context"
	"time"

	"pushcluster/shared/push"
)

// A CallbackPage is one page of the callbacks that are parked, the longest
// parked first.
type CallbackPage struct {
	Callbacks []Item[ParkedCallback] `json:"callbacks"`
	Next      string                 `json:"next"`
}

// A ParkedCallback is a message whose source could not be told of it.
type ParkedCallback struct {
	ID           push.MessageID `json:"id"`
	Source       string         `json:"source"`
	Reason       string         `json:"reason"`
	Attempts     int            `json:"attempts"`
	FailingSince time.Time      `json:"failing_since"`
	ParkedAt     time.Time      `json:"parked_at"`
}

// Callbacks lists the callbacks that are parked; next is that of the page before,
// or empty.
func (c *Client) Callbacks(ctx context.Context, next string) (Answer[CallbackPage], error) {
	return do[CallbackPage](ctx, c, call{to: c.collect(), method: "GET", path: "/v1/callbacks" + query("next", next), has: []string{"callbacks"}})
}

// ReplayCallback has the parked callback of a message tried again.
func (c *Client) ReplayCallback(ctx context.Context, id string) (Answer[Changed], error) {
	return c.callback(ctx, "POST", id, "/replay", "waiting")
}

// DiscardCallback gives the parked callback of a message up.
func (c *Client) DiscardCallback(ctx context.Context, id string) (Answer[Changed], error) {
	return c.callback(ctx, "DELETE", id, "", "given up")
}

// callback gives an order about a callback, whose answer is empty, and answers
// what becomes of it.
func (c *Client) callback(ctx context.Context, method, id, suffix, becomes string) (Answer[Changed], error) {
	a, err := do[Changed](ctx, c, call{to: c.collect(), method: method, path: "/v1/callbacks/" + segment(id) + suffix, silent: true})
	if err != nil {
		return a, err
	}
	a.Value = Changed{ID: push.MessageID(id), State: becomes}
	a.Raw = encode(a.Value)
	return a, nil
}
