package verify

import (
	"crypto/sha256"
	"maps"
	"sync"
	"time"

	"pushcluster/shared/push"
)

// A cacheKey is the first half of the SHA-256 of a token: who wants to be taken
// for another would have to find a token with the same 128 bits as one that they
// do not know.
type cacheKey [sha256.Size / 2]byte

func sum(token string) cacheKey {
	var room [1 << 10]byte // most tokens fit, and a copy of each on the heap would be garbage
	whole := sha256.Sum256(append(room[:0], token...))
	return cacheKey(whole[:len(cacheKey{})])
}

// A cache keeps good answers for a while, in two generations of half its
// entries each: when the young one is full, or as old as an answer may become,
// it is the old one, which is forgotten. So it never holds more than its
// entries and nothing ever has to be searched to make room; when it is full,
// some answers are forgotten early.
type cache struct {
	half int
	span time.Duration

	mu         sync.Mutex // guards what follows
	young, old map[cacheKey]*cached
	room       []cached  // for more in young: small pieces that end at different times would leave holes in the heap
	born       time.Time // of young
	life       int64     // how many evictions there were
}

// cached is an answer. There is one for each connection that opened lately, so it
// is kept small: what few tokens say is behind a pointer.
type cached struct {
	user            push.UserID
	token           string         // its id
	expires, issued int64          // Unix time in ms, which is what tokens have; 0: none
	until           int64          // when it counts no more, in ns
	whole           *push.Identity // nil where there is nothing besides
}

func newCached(id *push.Identity, until time.Time) cached {
	c := cached{user: id.User, token: id.TokenID, until: until.UnixNano()}
	if !id.ExpiresAt.IsZero() {
		c.expires = id.ExpiresAt.UnixMilli()
	}
	if !id.IssuedAt.IsZero() {
		c.issued = id.IssuedAt.UnixMilli()
	}
	if len(id.Channels) > 0 || len(id.Topics) > 0 || len(id.Info) > 0 {
		whole := *id
		c.whole = &whole
	}
	return c
}

// cachedAtOnce is for how many answers room is made at once.
const cachedAtOnce = 128

func (c *cached) identity() push.Identity {
	if c.whole != nil {
		return *c.whole
	}
	id := push.Identity{User: c.user, TokenID: c.token}
	if c.expires != 0 {
		id.ExpiresAt = time.UnixMilli(c.expires).UTC()
	}
	if c.issued != 0 {
		id.IssuedAt = time.UnixMilli(c.issued).UTC()
	}
	return id
}

func newCache(entries int, span time.Duration) *cache {
	return &cache{half: max(1, entries/2), span: span, young: make(map[cacheKey]*cached)}
}

// find returns what is known of key at now, and the present life of the cache.
func (c *cache) find(key cacheKey, now time.Time) (identity push.Identity, life int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.young[key]
	if !ok {
		found, ok = c.old[key]
	}
	if !ok || found.until <= now.UnixNano() {
		return push.Identity{}, c.life, false
	}
	return found.identity(), c.life, true
}

// keep remembers an answer that came at now to a question of the given life. If
// something was evicted since, it may be an answer from before: it is not kept.
func (c *cache) keep(key cacheKey, life int64, identity push.Identity, now time.Time) {
	until := now.Add(c.span)
	if end := identity.ExpiresAt; !end.IsZero() && end.Before(until) {
		until = end
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if life != c.life {
		return
	}
	if len(c.young) >= c.half || now.Sub(c.born) >= c.span {
		c.turn(now)
	}
	if len(c.room) == cap(c.room) {
		c.room = make([]cached, 0, min(cachedAtOnce, c.half))
	}
	c.room = append(c.room, newCached(&identity, until))
	c.young[key] = &c.room[len(c.room)-1]
}

// turn begins a generation. c.mu is held.
func (c *cache) turn(now time.Time) {
	c.old, c.young, c.room, c.born = c.young, make(map[cacheKey]*cached), nil, now
}

// tidy forgets, where nothing is kept any more that would, what is too old to
// count.
func (c *cache) tidy(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.young)+len(c.old) > 0 && now.Sub(c.born) >= c.span {
		c.turn(now)
	}
}

func (c *cache) evict(which func(*push.Identity) bool) {
	of := func(_ cacheKey, e *cached) bool {
		id := e.identity()
		return which(&id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life++
	maps.DeleteFunc(c.young, of)
	maps.DeleteFunc(c.old, of)
}

func (c *cache) evictAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life++
	c.young, c.old, c.room = make(map[cacheKey]*cached), nil, nil
}
