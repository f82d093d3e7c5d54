package push

import (
	"encoding/json"
	"slices"
	"time"
)

// Limits of one message.
const (
	MaxData       = 64 << 10            // bytes of data
	MaxRecipients = 10_000              // users and topics together
	MaxTTL        = 28 * 24 * time.Hour // from creation, or the later deliver_at, to expiry
	DefaultTTL    = 72 * time.Hour
	RepeatWindow  = 7 * 24 * time.Hour // how long beyond its ttl a message's id is remembered
)

// A Message is what a business system sent: stored once, addressed to users,
// topics or all. It is not changed after it was stored, and it is shared by
// everything that handles it: nobody may modify one they did not make.
type Message struct {
	ID          MessageID       `json:"id"`
	To          Recipients      `json:"to,omitzero"` // left out of the log and of what nodes get
	Event       string          `json:"event,omitempty"`
	Data        json.RawMessage `json:"data,omitempty"` // any JSON value; absent where only the store holds it
	CollapseKey string          `json:"collapse_key,omitempty"`
	CreatedAt   time.Time       `json:"created_at"`
	ExpiresAt   time.Time       `json:"expires_at"`
	DeliverAt   time.Time       `json:"deliver_at,omitzero"` // zero: at once
	Trace       string          `json:"trace,omitempty"`     // W3C traceparent of the request that brought it
}

// Expired reports whether the message may no longer be delivered at now.
func (m *Message) Expired(now time.Time) bool { return !m.ExpiresAt.After(now) }

// Recipients says whom a message is for.
type Recipients struct {
	Users    []UserID  `json:"users,omitempty"`
	Channels []Channel `json:"channels,omitempty"` // topics
	All      bool      `json:"all,omitempty"`
}

// IsZero reports whether nobody is addressed.
func (r Recipients) IsZero() bool { return len(r.Users) == 0 && len(r.Channels) == 0 && !r.All }

// AtMost returns how many channels List has at most, without making it.
func (r Recipients) AtMost() int { return len(r.Users) + len(r.Channels) + 1 }

// List returns every addressed channel once, in a stable order.
func (r Recipients) List() []Channel {
	list := make([]Channel, 0, r.AtMost())
	for _, u := range r.Users {
		list = append(list, Personal(u))
	}
	list = append(list, r.Channels...)
	if r.All {
		list = append(list, All)
	}
	slices.Sort(list)
	return slices.Compact(list)
}
