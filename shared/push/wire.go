package push

import (
	"encoding/json"
	"time"
)

// MaxToken is the size in bytes beyond which a connection token is refused
// unread.
const MaxToken = 8 << 10

// A VerifyRequest asks Auth whose token this is: POST /v1/auth/verify.
type VerifyRequest struct {
	Token string `json:"token"`
}

// The bounds of a [VerifyBatchRequest].
const (
	MaxTokens      = 256       // in one request
	MaxTokensBytes = 256 << 10 // of all its tokens
)

// A VerifyBatchRequest asks Auth whose each of several tokens is:
// POST /v1/auth/verify/batch.
type VerifyBatchRequest struct {
	Tokens []string `json:"tokens"`
}

// A VerifyBatchAnswer says, for each token of the request in order, whose it is
// or why it does not count.
type VerifyBatchAnswer struct {
	Results []VerifyResult `json:"results"`
}

// A VerifyResult is what Auth says of one token. One with neither identity nor
// problem says that Auth would have to wait for something to judge that token,
// which the others of the request should not: it is to be asked about alone.
type VerifyResult struct {
	Identity *Identity `json:"identity,omitempty"`
	Problem  *Problem  `json:"problem,omitempty"`
}

// An Identity is what Auth says of a valid token.
type Identity struct {
	User      UserID          `json:"user"`
	ExpiresAt time.Time       `json:"expires_at,omitzero"` // zero: the token has no expiry
	IssuedAt  time.Time       `json:"issued_at,omitzero"`  // zero: the token does not say
	TokenID   string          `json:"jti,omitempty"`
	Channels  []Channel       `json:"channels,omitempty"` // the server subscribes the connection to these
	Topics    []string        `json:"topics,omitempty"`   // what a client may subscribe to: names, or a prefix ending in '*'
	Info      json.RawMessage `json:"info,omitempty"`
}

// A DispatchRequest hands messages to Dispatch: POST /v1/dispatch.
type DispatchRequest struct {
	// Again is true if any of the messages may have been handed off before.
	Again    bool      `json:"again,omitempty"`
	Messages []Message `json:"messages"`
}

// A DispatchAnswer says, for each message of the request in order, whether its
// inbox is written. A message without problem is confirmed.
type DispatchAnswer struct {
	Results []DispatchResult `json:"results"`
}

// A DispatchResult is the outcome of one message.
type DispatchResult struct {
	ID      MessageID `json:"id"`
	Problem *Problem  `json:"problem,omitempty"`
}

// A DeliverRequest brings a node the entries of the channels it has routes
// for: POST /v1/node/deliver. A node that is not Node refuses it with
// [CodeOtherNode], so that what was meant for a dead incarnation is not taken
// by its successor at the same address.
type DeliverRequest struct {
	Node     NodeID         `json:"node"`
	Messages []Message      `json:"messages"`
	Entries  []DeliverEntry `json:"entries"`
	// Beat asks the node to compare its positions with what is stored, because
	// an earlier request may not have reached it.
	Beat bool `json:"beat,omitempty"`
}

// A DeliverEntry is an [Entry] whose message is named by its index in the
// request.
type DeliverEntry struct {
	Channel Channel `json:"channel"`
	Offset  Offset  `json:"offset"`
	Prev    Offset  `json:"prev,omitempty"`
	Message int     `json:"message"`
}

// A DeliverAnswer says what the node made of a [DeliverRequest].
type DeliverAnswer struct {
	Node NodeID `json:"node"`
	// Unknown lists channels that have no connection here. The sender removes
	// their routes under the registrations that brought it here.
	Unknown []Channel `json:"unknown,omitempty"`
}
