package token

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"

	"pushcluster/shared/push"
)

// Why a token does not count. An error of this package wraps exactly one.
var (
	ErrExpired     = errors.New("token expired")
	ErrInvalid     = errors.New("token invalid")
	ErrUnavailable = errors.New("token cannot be checked now")
)

// ErrNotNow is an [ErrUnavailable]: what the token's key is would have to be
// fetched, and [Verifier.VerifyNow] waits for nothing.
var ErrNotNow = fmt.Errorf("%w without fetching keys", ErrUnavailable)

// DefaultLeeway is how far nbf and iat may lie ahead of our clock.
const DefaultLeeway = 30 * time.Second

// Config says which tokens count.
type Config struct {
	Keys     Keys          // from TOKEN_KEYS
	JWKSURL  string        // where more public keys are; empty: nowhere
	Issuer   string        // what iss must be; empty: anything
	Audience string        // what aud must be or hold; empty: anything
	Leeway   time.Duration // for nbf and iat; 0: DefaultLeeway
}

// A Verifier tells whose token a token is. It may be used concurrently.
type Verifier struct {
	cfg     Config
	now     func() time.Time
	jwks    *jwks // nil if no JWKS is configured
	parser  *jwt.Parser
	headers headers
}

// NewVerifier returns a verifier that fetches its JWKS, if cfg names one, with
// client, when a token first needs it. It does no I/O and starts nothing. A
// verifier without any key is an error.
func NewVerifier(cfg Config, client *http.Client, now func() time.Time, log *slog.Logger, reg prometheus.Registerer) (*Verifier, error) {
	if len(cfg.Keys) == 0 && cfg.JWKSURL == "" {
		return nil, errors.New("token: neither keys nor a JWKS to verify tokens with")
	}
	if cfg.Leeway == 0 {
		cfg.Leeway = DefaultLeeway
	}
	v := &Verifier{
		cfg: cfg, now: now,
		parser: jwt.NewParser(
			jwt.WithValidMethods(allAlgs),
			jwt.WithStrictDecoding(),
			jwt.WithoutClaimsValidation(), // judge does it, after the signature
		),
	}
	if cfg.JWKSURL != "" {
		j, err := newJWKS(cfg.JWKSURL, client, now, log, reg)
		if err != nil {
			return nil, err
		}
		v.jwks = j
	}
	return v, nil
}

// Verify returns what text says, if it is a token that counts at this moment.
// Its error wraps [ErrExpired], [ErrInvalid] or [ErrUnavailable], and holds
// nothing that would be of use to a thief. A token that is expired and wrong
// besides is invalid. If ctx ends first, the token is unavailable.
func (v *Verifier) Verify(ctx context.Context, text string) (push.Identity, error) {
	return v.verify(text, func(kid string) ([]Key, error) { return v.jwks.find(ctx, kid) })
}

// VerifyNow is Verify for who cannot wait: where a key would have to be fetched,
// its error wraps [ErrNotNow].
func (v *Verifier) VerifyNow(text string) (push.Identity, error) {
	return v.verify(text, func(kid string) ([]Key, error) { return v.jwks.findSome(kid) })
}

// A finder finds the keys of a kid that is not among those of the configuration.
type finder func(kid string) ([]Key, error)

func (v *Verifier) verify(text string, find finder) (push.Identity, error) {
	payload, err := v.open(text, find)
	if err != nil {
		return push.Identity{}, err
	}
	c, ok := quickClaims(payload)
	if !ok {
		c, err = parseClaims(payload)
	}
	if err != nil {
		return push.Identity{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return v.judge(c)
}

// Ready returns nil if the verifier could verify tokens of all its keys: if
// there is a JWKS, it was fetched at least once. If it was not, Ready tries to.
func (v *Verifier) Ready(ctx context.Context) error {
	if v.jwks == nil {
		return nil
	}
	return v.jwks.ready(ctx)
}

// open returns the payload of a token whose signature is right. The payload is
// not looked into before that.
func (v *Verifier) open(text string, find finder) ([]byte, error) {
	if len(text) > push.MaxToken {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrInvalid, push.MaxToken)
	}
	for _, c := range []byte(text) {
		if !inToken(c) {
			// The decoder would skip line ends: one token would have many spellings.
			return nil, fmt.Errorf("%w: a character that no token has", ErrInvalid)
		}
	}
	if raw, ok, err := v.openQuick(text); ok {
		return raw, err
	}
	var p payload
	t, err := v.parser.ParseWithClaims(text, &p, func(t *jwt.Token) (any, error) {
		return v.keysForHeader(t.Header, find)
	})
	switch {
	case errors.Is(err, ErrUnavailable):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	v.headers.keep(t)
	return p.raw, nil
}

func inToken(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
}

// keysForHeader returns the keys that may have signed a token with this header.
func (v *Verifier) keysForHeader(header map[string]any, find finder) (jwt.VerificationKeySet, error) {
	if _, ok := header["crit"]; ok {
		return jwt.VerificationKeySet{}, errors.New("critical header extensions, which nobody here understands")
	}
	alg, _ := header["alg"].(string)
	kid := ""
	if value, ok := header["kid"]; ok {
		if kid, ok = value.(string); !ok || len(kid) > maxKeyID {
			return jwt.VerificationKeySet{}, errors.New("a kid that is no string, or too long")
		}
	}
	return v.keysFor(alg, kid, find)
}

// keysFor returns the keys of this kid that are for this algorithm.
func (v *Verifier) keysFor(alg, kid string, find finder) (jwt.VerificationKeySet, error) {
	var set jwt.VerificationKeySet
	known := slices.Collect(keysOf(v.cfg.Keys, kid))
	if len(known) == 0 && v.jwks != nil {
		var err error
		if known, err = find(kid); err != nil {
			return set, err
		}
	}
	if len(known) == 0 {
		return set, errors.New("no key of this kid")
	}
	for _, k := range known {
		if k.Alg == alg {
			set.Keys = append(set.Keys, k.verify)
		}
	}
	if len(set.Keys) == 0 {
		return set, errors.New("the key of this kid is for another algorithm")
	}
	return set, nil
}

// judge decides whether what c claims counts now. Expiry comes last, so that
// only a token that was good once is called expired.
func (v *Verifier) judge(c claims) (push.Identity, error) {
	invalid := func(format string, args ...any) (push.Identity, error) {
		return push.Identity{}, fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
	}
	now := v.now()
	latest := now.Add(v.cfg.Leeway)
	switch {
	case v.cfg.Issuer != "" && c.iss != v.cfg.Issuer:
		return invalid("from another issuer")
	case v.cfg.Audience != "" && !slices.Contains(c.aud, v.cfg.Audience):
		return invalid("for another audience")
	case c.nbf.After(latest):
		return invalid("not valid before %s", c.nbf.Format(time.RFC3339))
	case c.iat.After(latest):
		return invalid("issued in the future, at %s", c.iat.Format(time.RFC3339))
	}
	identity, err := c.identity()
	if err != nil {
		return invalid("%w", err)
	}
	if !c.exp.IsZero() && !c.exp.After(now) {
		return push.Identity{}, fmt.Errorf("%w at %s", ErrExpired, c.exp.Format(time.RFC3339))
	}
	return identity, nil
}
