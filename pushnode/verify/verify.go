// Package verify is the node's client of Auth: it asks whose a connection token
// is, and spares Auth what it was just asked.
//
// A good answer counts for at most 10 s and never past the token's expiry; a
// bad one is not kept. Questions about one token at one moment are one
// question, and questions about many tokens go together in one request while
// others are under way, so clients that all return at once do not become a storm
// at Auth. Each token is judged by itself: what is wrong with one is nothing to
// those that went with it.
// Tokens themselves are not kept, only half of their SHA-256.
package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushcluster/shared/push"
)

// Why there is no identity. An error of Verify wraps exactly one.
var (
	ErrExpired     = errors.New("token expired")              // was good once: the client fetches a new one
	ErrInvalid     = errors.New("token invalid")              // never will be good
	ErrUnavailable = errors.New("token cannot be judged now") // Auth is away or cannot tell: the client tries again
)

// maxCacheFor bounds for how long a revoked token may still open connections.
const maxCacheFor = 10 * time.Second

// Config tunes a [Verifier].
type Config struct {
	CacheFor time.Duration // how long a good answer counts; 0 means 10 s, which is also the most
	Entries  int           // the most answers that are kept; 0 means 16,384
	Parallel int           // the most requests to Auth at once; 0 means 64
	Deadline time.Duration // for one question in all, waiting for its request included; 0 means 4 s (clients wait 5)
}

// A Verifier asks Auth whose a token is. It may be used concurrently.
type Verifier struct {
	cfg     Config
	base    string // URL of Auth, without path
	client  *http.Client
	now     func() time.Time
	metrics *metrics
	desk    *desk
	cache   *cache
	revoked revokedList
}

// CheckURL returns nil if authURL is one that [New] understands.
func CheckURL(authURL string) error {
	u, err := url.Parse(authURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "lambda") {
		return errors.New("the URL of Auth is none of http://HOST:PORT, https:// and lambda://FUNCTION")
	}
	if strings.ContainsAny(authURL, "?#") { // what is put behind it would be no path
		return errors.New("the URL of Auth has a query or a fragment; it is http://HOST:PORT, https:// or lambda://FUNCTION")
	}
	return nil
}

// New returns a verifier that asks Auth at authURL (its base, without path)
// with client, which signs what it sends, or invokes the function if the URL is
// lambda://FUNCTION. It does no I/O and starts nothing.
func New(cfg Config, authURL string, client *http.Client, now func() time.Time, reg prometheus.Registerer) (*Verifier, error) {
	if err := CheckURL(authURL); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if cfg.CacheFor < 0 || cfg.CacheFor > maxCacheFor {
		return nil, fmt.Errorf("verify: Config.CacheFor must be at most %s", maxCacheFor)
	}
	if cfg.Entries < 0 || cfg.Parallel < 0 || cfg.Deadline < 0 {
		return nil, errors.New("verify: nothing in Config may be negative")
	}
	if cfg.CacheFor == 0 {
		cfg.CacheFor = maxCacheFor
	}
	if cfg.Entries == 0 {
		cfg.Entries = 16384
	}
	if cfg.Parallel == 0 {
		cfg.Parallel = 64
	}
	if cfg.Deadline == 0 {
		cfg.Deadline = 4 * time.Second
	}
	v := &Verifier{
		cfg: cfg, base: strings.TrimSuffix(authURL, "/"),
		client: client, now: now, metrics: newMetrics(reg),
		cache: newCache(cfg.Entries, cfg.CacheFor),
	}
	v.desk = &desk{parallel: cfg.Parallel, deadline: cfg.Deadline, kept: v.kept, send: v.ask, byName: make(map[questionName]*question)}
	return v, nil
}

// kept returns the answer that counts for a name, nil if none does.
func (v *Verifier) kept(name questionName) *push.Identity {
	identity, life, ok := v.cache.find(name.key, v.now())
	if !ok || life != name.life || v.Revoked(&identity) {
		return nil
	}
	found := identity // on the heap only where there is one
	return &found
}

// Verify returns whose token is. Its error wraps [ErrExpired], [ErrInvalid] or
// [ErrUnavailable]; a ctx that ends first is unavailable, and fails nobody else
// who asks about the same token. The caller must not modify what it returns.
func (v *Verifier) Verify(ctx context.Context, token string) (push.Identity, error) {
	if token == "" || len(token) > push.MaxToken {
		v.metrics.answered(fromShape, ErrInvalid)
		return push.Identity{}, fmt.Errorf("%w: %d bytes", ErrInvalid, len(token))
	}
	key := sum(token)
	identity, life, ok := v.cache.find(key, v.now())
	if ok && !v.Revoked(&identity) {
		v.metrics.answered(fromCache, nil)
		return identity, nil
	}
	q := v.desk.ask(questionName{key, life}, token)
	select {
	case <-q.done:
		v.metrics.answered(fromAuth, q.err)
		if q.err != nil {
			return push.Identity{}, q.err
		}
		return *q.identity, nil
	case <-ctx.Done():
		err := fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
		v.metrics.answered(fromAuth, err)
		return push.Identity{}, err
	}
}

// judge returns what Auth's answer to a question is worth here, and keeps a good
// one.
func (v *Verifier) judge(q *question, identity *push.Identity, err error) answer {
	if err != nil {
		return answer{err: err}
	}
	if v.Revoked(identity) {
		return answer{err: fmt.Errorf("%w: revoked", ErrInvalid)} // and Auth does not know yet
	}
	now := v.now()
	if !identity.ExpiresAt.IsZero() && !identity.ExpiresAt.After(now) {
		return answer{err: ErrExpired} // while the answer travelled, or Auth's clock is behind
	}
	v.cache.keep(q.key, q.life, *identity, now)
	return answer{identity: identity}
}

// Evict forgets what is known of the tokens of user: the next connection asks
// Auth, and answers under way are not kept. Its cost grows with the cache.
func (v *Verifier) Evict(user push.UserID) {
	v.cache.evict(func(id *push.Identity) bool { return id.User == user })
}

// Tidy gives back the memory of answers that count no more. Whoever calls Verify
// calls it every few seconds; else that of the last is kept until the next.
func (v *Verifier) Tidy() { v.cache.tidy(v.now()) }

// EvictAll forgets everything, as Evict does for one user.
func (v *Verifier) EvictAll() { v.cache.evictAll() }

// Wait returns when no question is under way any more, at most Config.Deadline
// after the last Verify. Call it when nobody will call Verify again.
func (v *Verifier) Wait() { v.desk.wait() }
