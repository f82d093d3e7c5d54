package verify

import (
	"slices"
	"sync"
	"time"

	"pushcluster/shared/push"
)

const (
	// revokedFor is how long a revocation is remembered here: until Auth, which
	// reads the list every 2 s, has it, and what it said before counts no more.
	revokedFor = maxCacheFor + 5*time.Second
	// maxRevoked bounds what is remembered. Beyond it the oldest are forgotten;
	// their tokens may count until Auth has the list and the cache is over.
	maxRevoked = 10_000
)

// A revokedList remembers what was revoked lately.
type revokedList struct {
	mu   sync.Mutex // guards what follows
	list []remembered
}

type remembered struct {
	push.Revocation
	until time.Time
}

// add remembers r from now on.
func (l *revokedList) add(r push.Revocation, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = slices.DeleteFunc(l.list, func(old remembered) bool { return !old.until.After(now) })
	if len(l.list) >= maxRevoked {
		l.list = slices.Delete(l.list, 0, 1)
	}
	l.list = append(l.list, remembered{r, now.Add(revokedFor)})
}

// covers reports whether the token that said id was revoked lately.
func (l *revokedList) covers(id *push.Identity, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.list, func(r remembered) bool { return r.until.After(now) && r.Covers(id) })
}

// Revoke has the tokens that r covers count no more: what is known of them is
// forgotten, and for a while they are refused whatever Auth says, because it may
// not have heard yet. Its cost grows with the cache.
func (v *Verifier) Revoke(r push.Revocation) {
	v.revoked.add(r, v.now())
	v.cache.evict(func(id *push.Identity) bool { return r.Covers(id) })
}

// Revoked reports whether the token that said id was revoked since it was
// verified. It knows what [Verifier.Revoke] was told within the last 15 s.
func (v *Verifier) Revoked(id *push.Identity) bool { return v.revoked.covers(id, v.now()) }
