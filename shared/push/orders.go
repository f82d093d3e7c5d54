package push

import (
	"errors"
	"fmt"
	"time"
)

// What is asked of nodes, and of Dispatch about all nodes. Dispatch's answers
// name the nodes that did not answer it in time: what those hold is not in them.

// An InfoRequest asks which connections a user has: POST /v1/node/info of one
// node, POST /v1/dispatch/info of all.
type InfoRequest struct {
	User UserID `json:"user"`
}

// An InfoAnswer lists a user's open connections.
type InfoAnswer struct {
	Connections []OpenConnection `json:"connections"`
	Unanswered  []NodeID         `json:"unanswered,omitempty"` // of Dispatch: nodes that may have more
}

// An OpenConnection is one connection of a user.
type OpenConnection struct {
	Node   NodeID    `json:"node,omitempty"`
	Device Device    `json:"device,omitempty"`
	Since  time.Time `json:"since"` // when the connect command succeeded
}

// A DisconnectRequest closes the connections of a user, or of one device of a
// user, or one of them: POST /v1/node/disconnect on one node, POST
// /v1/dispatch/disconnect on all.
type DisconnectRequest struct {
	User   UserID `json:"user"`
	Device Device `json:"device,omitempty"` // empty: every device
	Client string `json:"client,omitempty"` // the connection's id as its client knows it; empty: every one
	// Except names connections that stay open, by the same ids.
	Except []string `json:"except,omitempty"`
	// Code and Reason close with another close code than 3503: see [CustomClose].
	Code   int    `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Check returns nil if r can be carried out, else an error that says why not.
func (r *DisconnectRequest) Check() error {
	if len(r.Except) > maxExcept {
		return fmt.Errorf("%d connections are to stay, more than %d", len(r.Except), maxExcept)
	}
	for _, id := range r.Except {
		if err := checkClient(id); err != nil {
			return err
		}
	}
	_, err := CustomClose(r.Code, r.Reason)
	return errors.Join(r.User.Check(), r.Device.Check(), checkClient(r.Client), err)
}

// A DisconnectAnswer says how many connections were closed.
type DisconnectAnswer struct {
	Closed     int      `json:"closed"`
	Unanswered []NodeID `json:"unanswered,omitempty"` // of Dispatch: nodes that may have closed some or none
}

// A RevokeRequest closes the connections whose tokens were revoked, and has
// nodes forget that those tokens counted: POST /v1/node/revoke on one node,
// POST /v1/dispatch/revoke on all. The answer is a [DisconnectAnswer].
type RevokeRequest struct {
	Revocation
}

// A Revocation makes tokens count no more, until it ends: those of User that
// were issued at or before At, or the one token whose id is TokenID. Exactly one
// of User and TokenID is set.
type Revocation struct {
	User    UserID    `json:"user,omitempty"`
	TokenID string    `json:"jti,omitempty"`
	At      time.Time `json:"at"`
	Until   time.Time `json:"until"`
}

// Covers reports whether the token that said id is one that r is about. A token
// that does not say when it was issued counts as issued before.
func (r *Revocation) Covers(id *Identity) bool {
	if r.User != "" {
		return r.User == id.User && !id.IssuedAt.After(r.At)
	}
	return r.TokenID != "" && r.TokenID == id.TokenID
}
