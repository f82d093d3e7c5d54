package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// How a JWKS is kept.
const (
	jwksTimeout  = 2 * time.Second  // for one fetch; nodes wait 4 s for Auth
	jwksMaxBytes = 256 << 10        // of its body
	jwksMaxKeys  = 100              // in it
	jwksFresh    = 10 * time.Minute // then it is fetched again at the next use
	jwksKeep     = 24 * time.Hour   // while it is away, what it last said counts this long
	jwksPause    = 5 * time.Second  // between fetches, once jwksBurst are used up
	jwksBurst    = 5
)

var errTooSoon = errors.New("the JWKS was asked often enough for now")

// A jwks is a cached JSON Web Key Set. It is fetched when a token first needs
// it, when it is no longer fresh, and when a token names a kid it lacks; never
// by two at once, and at a bounded rate whatever tokens arrive. Nothing runs
// when no token is verified, so it suits a Lambda.
type jwks struct {
	url     string
	client  *http.Client
	now     func() time.Time
	log     *slog.Logger
	metrics *jwksMetrics
	pace    *rate.Limiter

	mu        sync.Mutex // guards what follows
	keys      []Key
	fetchedAt time.Time     // zero: never
	flight    chan struct{} // closed when the fetch under way has ended; nil: none is
	err       error         // of the last fetch
	turn      time.Time     // when findSome last sent somebody to find
}

// CheckJWKS returns nil if address is one that a JWKS can be fetched from.
func CheckJWKS(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return errors.New("the JWKS address is no http or https URL")
	}
	return nil
}

func newJWKS(address string, client *http.Client, now func() time.Time, log *slog.Logger, reg prometheus.Registerer) (*jwks, error) {
	if err := CheckJWKS(address); err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	return &jwks{
		url: address, client: client, now: now, log: log, metrics: newJWKSMetrics(reg),
		pace: rate.NewLimiter(rate.Every(jwksPause), jwksBurst),
	}, nil
}

// find returns the keys of kid. Its error wraps [ErrUnavailable] if the kid is
// unknown and the JWKS could not be asked about it; no keys and no error mean
// that the JWKS does not have it.
func (j *jwks) find(ctx context.Context, kid string) ([]Key, error) {
	keys, fresh, busy := j.look(kid)
	if len(keys) > 0 && (fresh || busy) {
		return keys, nil // whoever is busy makes it fresh; the others need not wait
	}
	err := j.fetch(ctx)
	if again, _, _ := j.look(kid); len(again) > 0 {
		return again, nil
	}
	if err != nil {
		// The kid may be newer than what is cached: not known to be wrong.
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil, nil
}

// findNow is find without waiting: where find would have to ask, its error is
// [ErrNotNow].
func (j *jwks) findNow(kid string) ([]Key, error) {
	keys, fresh, busy := j.look(kid)
	if len(keys) > 0 && (fresh || busy) {
		return keys, nil
	}
	return nil, ErrNotNow
}

// findSome is findNow for one of many: of those who want a key that is known, but
// not fresh, one in each jwksPause is told [ErrNotNow], who then comes to find; the
// others need not wait for what may be away.
func (j *jwks) findSome(kid string) ([]Key, error) {
	keys, fresh, busy := j.look(kid)
	if len(keys) > 0 && (fresh || busy || !j.isTurn()) {
		return keys, nil
	}
	return nil, ErrNotNow
}

// isTurn reports true once in each jwksPause.
func (j *jwks) isTurn() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.now()
	if now.Sub(j.turn) < jwksPause && !now.Before(j.turn) {
		return false
	}
	j.turn = now
	return true
}

// look returns the cached keys of kid that still count, whether the cache is
// fresh, and whether a fetch is under way.
func (j *jwks) look(kid string) (keys []Key, fresh, busy bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	age := j.now().Sub(j.fetchedAt)
	if j.fetchedAt.IsZero() || age > jwksKeep {
		return nil, false, j.flight != nil
	}
	return slices.Collect(keysOf(j.keys, kid)), age <= jwksFresh, j.flight != nil
}

func (j *jwks) ready(ctx context.Context) error {
	j.mu.Lock()
	known := !j.fetchedAt.IsZero()
	j.mu.Unlock()
	if known {
		return nil
	}
	return j.fetch(ctx)
}

// fetch fetches the set, or waits for the fetch under way, and returns what
// came of it. A caller's end does not end the fetch, which others wait for.
func (j *jwks) fetch(ctx context.Context) error {
	j.mu.Lock()
	if flight := j.flight; flight != nil {
		j.mu.Unlock()
		select {
		case <-flight:
			j.mu.Lock()
			defer j.mu.Unlock()
			return j.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if !j.pace.AllowN(j.now(), 1) {
		defer j.mu.Unlock()
		j.metrics.fetches.WithLabelValues("too_soon").Inc()
		return errTooSoon
	}
	flight := make(chan struct{})
	j.flight = flight
	j.mu.Unlock()

	keys, err := j.load(context.WithoutCancel(ctx))

	j.mu.Lock()
	defer j.mu.Unlock()
	j.flight, j.err = nil, err
	close(flight)
	if err != nil {
		j.metrics.fetches.WithLabelValues("failed").Inc()
		j.log.Warn("JWKS not fetched", "err", err)
		return err
	}
	j.keys, j.fetchedAt = keys, j.now()
	j.metrics.fetches.WithLabelValues("ok").Inc()
	j.metrics.keys.Set(float64(len(keys)))
	return nil
}

// load asks for the set once.
func (j *jwks) load(ctx context.Context) ([]Key, error) {
	ctx, cancel := context.WithTimeout(ctx, jwksTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for the JWKS: %w", err)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := j.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask for the JWKS: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the JWKS answers %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, jwksMaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the JWKS: %w", err)
	}
	if len(body) > jwksMaxBytes {
		return nil, fmt.Errorf("the JWKS is larger than %d bytes", jwksMaxBytes)
	}
	return parseJWKS(body)
}

// parseJWKS reads a JSON Web Key Set (RFC 7517). Keys that are not for
// verifying signatures, or of a kind that we do not take (symmetric ones above
// all, which have no business in a public set), are left out.
func parseJWKS(body []byte) ([]Key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil || set.Keys == nil {
		return nil, errors.New("the JWKS is no JSON object with keys")
	}
	if len(set.Keys) > jwksMaxKeys {
		return nil, fmt.Errorf("the JWKS has %d keys, more than %d", len(set.Keys), jwksMaxKeys)
	}
	var keys []Key
	for _, raw := range set.Keys {
		jwk, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err != nil {
			continue
		}
		m := jwk.Marshal()
		if m.USE != "" && m.USE != jwkset.UseSig {
			continue
		}
		if len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
			continue
		}
		for _, alg := range algsOf(m.ALG.String(), jwk.Key()) {
			if k, err := newKey(m.KID, alg, jwk.Key()); err == nil {
				keys = append(keys, k)
			}
		}
	}
	return keys, nil
}

// algsOf returns the algorithms that key may be used with: the one it is
// marked with, else those that its kind allows.
func algsOf(marked string, key any) []string {
	if marked != "" {
		return []string{marked}
	}
	switch pub := key.(type) {
	case *rsa.PublicKey:
		return rsaAlgs
	case *ecdsa.PublicKey:
		for alg, curve := range ecCurves {
			if curve == pub.Curve {
				return []string{alg}
			}
		}
	case ed25519.PublicKey:
		return []string{"EdDSA"}
	}
	return nil
}
