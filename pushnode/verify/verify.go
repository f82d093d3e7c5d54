// Package verify is the node's client of Auth: it asks whose a connection token
// is, and spares Auth what it was just asked.
//
// A good answer counts for at most 10 s and never past the token's expiry; a
// bad one is not kept. Questions about one token at one moment are one
// question, so clients that all return at once do not become a storm at Auth.
// Tokens themselves are not kept, only their SHA-256.
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
	Parallel int           // the most questions to Auth at once; 0 means 64
	Deadline time.Duration // for one question in all, waiting for its turn included; 0 means 4 s (clients wait 5)
}

// A Verifier asks Auth whose a token is. It may be used concurrently.
type Verifier struct {
	cfg     Config
	base    string // URL of Auth, without path
	client  *http.Client
	now     func() time.Time
	metrics *metrics
	turns   chan struct{} // holds one value per question at Auth
	flights flights
	cache   *cache
	revoked revokedList
}

// New returns a verifier that asks Auth at authURL (its base, without path)
// with client, which signs what it sends, or invokes the function if the URL is
// lambda://FUNCTION. It does no I/O and starts nothing.
func New(cfg Config, authURL string, client *http.Client, now func() time.Time, reg prometheus.Registerer) (*Verifier, error) {
	u, err := url.Parse(authURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "lambda") {
		return nil, errors.New("verify: the URL of Auth is none of http://HOST:PORT, https:// and lambda://FUNCTION")
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
	return &Verifier{
		cfg: cfg, base: strings.TrimSuffix(authURL, "/"),
		client: client, now: now, metrics: newMetrics(reg),
		turns: make(chan struct{}, cfg.Parallel),
		cache: newCache(cfg.Entries, cfg.CacheFor),
	}, nil
}

// Verify returns whose token is. Its error wraps [ErrExpired], [ErrInvalid] or
// [ErrUnavailable]; a ctx that ends first is unavailable, and fails nobody else
// who asks about the same token. The caller must not modify what it returns.
func (v *Verifier) Verify(ctx context.Context, token string) (push.Identity, error) {
	if token == "" || len(token) > push.MaxToken {
		v.metrics.answered("shape", ErrInvalid)
		return push.Identity{}, fmt.Errorf("%w: %d bytes", ErrInvalid, len(token))
	}
	key := sum(token)
	identity, life, ok := v.cache.find(key, v.now())
	if ok && !v.Revoked(&identity) {
		v.metrics.answered("cache", nil)
		return identity, nil
	}
	flight := v.flights.join(ctx, flightName{key, life}, func(ctx context.Context) (push.Identity, error) {
		return v.ask(ctx, key, life, token)
	})
	select {
	case <-flight.done:
		v.metrics.answered("auth", flight.err)
		return flight.identity, flight.err
	case <-ctx.Done():
		err := fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
		v.metrics.answered("auth", err)
		return push.Identity{}, err
	}
}

// ask asks Auth, in its turn, and keeps a good answer.
func (v *Verifier) ask(ctx context.Context, key cacheKey, life int64, token string) (push.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Deadline)
	defer cancel()
	select {
	case v.turns <- struct{}{}:
		defer func() { <-v.turns }()
	case <-ctx.Done():
		return push.Identity{}, fmt.Errorf("%w: Auth is busy with %d questions", ErrUnavailable, v.cfg.Parallel)
	}
	identity, err := v.post(ctx, token)
	if err != nil {
		return push.Identity{}, err
	}
	if v.Revoked(&identity) {
		return push.Identity{}, fmt.Errorf("%w: revoked", ErrInvalid) // and Auth does not know yet
	}
	now := v.now()
	if !identity.ExpiresAt.IsZero() && !identity.ExpiresAt.After(now) {
		return push.Identity{}, ErrExpired // while the answer travelled, or Auth's clock is behind
	}
	v.cache.keep(key, life, identity, now)
	return identity, nil
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
func (v *Verifier) Wait() { v.flights.running.Wait() }
