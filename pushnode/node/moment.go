package node

import (
	"time"

	"pushcluster/shared/push"
)

// A moment is when something happened, as nanoseconds since the node was made,
// on its own monotonic clock; 0: never. It is a third of a time.Time, of which
// every connection would have several.
type moment int64

// moment returns t, which is not before the node was made, as a moment.
func (n *Node) moment(t time.Time) moment { return max(1, moment(t.Sub(n.started))) }

// after returns the moment d later.
func (m moment) after(d time.Duration) moment { return m + moment(d) }

// since returns how long before m an earlier moment was.
func (m moment) since(earlier moment) time.Duration { return time.Duration(m - earlier) }

// rights are what a client's token gave it besides its name: what of an identity
// a connection needs for as long as it lasts.
type rights struct {
	expires, issued int64     // Unix time in ms, by the cluster's clock; 0: none
	token           string    // its id
	few             *[]string // the topics; nil: none
}

func rightsOf(id *push.Identity) rights {
	r := rights{token: id.TokenID}
	if len(id.Topics) > 0 {
		topics := id.Topics
		r.few = &topics // not what id has besides
	}
	if !id.ExpiresAt.IsZero() {
		r.expires = id.ExpiresAt.UnixMilli()
	}
	if !id.IssuedAt.IsZero() {
		r.issued = id.IssuedAt.UnixMilli()
	}
	return r
}

// topics returns the topics that the client may subscribe to. c.mu is held.
func (r *rights) topics() []string {
	if r.few == nil {
		return nil
	}
	return *r.few
}

// coveredBy reports whether r takes back the token that the client connected
// with. c.mu is held.
func (c *client) coveredBy(r *push.Revocation) bool {
	id := push.Identity{User: c.user, TokenID: c.rights.token}
	if c.rights.issued != 0 {
		id.IssuedAt = time.UnixMilli(c.rights.issued)
	}
	return r.Covers(&id)
}
