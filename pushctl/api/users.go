package api

import (
	"context"
	"encoding/json"
	"time"

	"pushcluster/shared/push"
)

// A UserState is what is known of a user.
type UserState struct {
	User        push.UserID           `json:"user"`
	Connections []push.OpenConnection `json:"connections"`
	Devices     []struct {
		Device  push.Device `json:"device"`
		Cursors []struct {
			Channel      push.Channel `json:"channel"`
			Received     push.Offset  `json:"received"`
			Acknowledged push.Offset  `json:"acknowledged"`
			UpdatedAt    time.Time    `json:"updated_at"`
		} `json:"cursors"`
	} `json:"devices"`
	Unanswered []push.NodeID `json:"unanswered"`
}

// User asks who is connected, and how far each device has come.
func (c *Client) User(ctx context.Context, user string) (Answer[UserState], error) {
	return do[UserState](ctx, c, call{to: c.collect(), method: "GET", path: "/v1/users/" + segment(user), has: []string{"user"}})
}

// Kick closes a user's connections; device may be empty.
func (c *Client) Kick(ctx context.Context, user, device string) (Answer[push.DisconnectAnswer], error) {
	path := "/v1/users/" + segment(user) + "/connections" + query("device", device)
	return do[push.DisconnectAnswer](ctx, c, call{to: c.collect(), method: "DELETE", path: path, has: []string{"closed"}})
}

// A Revocation has tokens count no more: those of User, or the one of TokenID.
type Revocation struct {
	User    string `json:"user,omitempty"`
	TokenID string `json:"jti,omitempty"`
	Until   string `json:"until,omitempty"`
}

// Revoke has tokens count no more, and closes what they opened.
func (c *Client) Revoke(ctx context.Context, r Revocation) (Answer[push.DisconnectAnswer], error) {
	return do[push.DisconnectAnswer](ctx, c, call{to: c.collect(), method: "POST", path: "/v1/revocations", has: []string{"closed"}, body: encode(r)})
}

// A NodeList lists nodes.
type NodeList struct {
	Nodes []Item[push.NodeInfo] `json:"nodes"`
}

// Nodes lists the push nodes that are alive.
func (c *Client) Nodes(ctx context.Context) (Answer[NodeList], error) {
	return do[NodeList](ctx, c, call{to: c.collect(), method: "GET", path: "/v1/nodes", has: []string{"nodes"}})
}

// A Grant is what a token is to say. Empty fields are left out.
type Grant struct {
	User     string          `json:"user"`
	TTL      string          `json:"ttl,omitempty"`
	Channels []string        `json:"channels,omitempty"`
	Topics   []string        `json:"topics,omitempty"`
	Info     json.RawMessage `json:"info,omitempty"`
}

// A Token is a connection token.
type Token struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Token has Auth mint a token.
func (c *Client) Token(ctx context.Context, g Grant) (Answer[Token], error) {
	return do[Token](ctx, c, call{to: c.auth(), method: "POST", path: "/v1/tokens", has: []string{"token"}, body: encode(g)})
}
