package token

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
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
	cfg    Config
	now    func() time.Time
	jwks   *jwks // nil if no JWKS is configured
	parser *jwt.Parser
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
	payload, err := v.open(ctx, text)
	if err != nil {
		return push.Identity{}, err
	}
	c, err := parseClaims(payload)
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
func (v *Verifier) open(ctx context.Context, text string) ([]byte, error) {
	if len(text) > push.MaxToken {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrInvalid, push.MaxToken)
	}
	if strings.ContainsFunc(text, notInToken) {
		// The decoder would skip line ends: one token would have many spellings.
		return nil, fmt.Errorf("%w: a character that no token has", ErrInvalid)
	}
	var p payload
	_, err := v.parser.ParseWithClaims(text, &p, func(t *jwt.Token) (any, error) {
		return v.keysFor(ctx, t.Header)
	})
	switch {
	case errors.Is(err, ErrUnavailable):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return p.raw, nil
}

func notInToken(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
		return false
	}
	return true
}

// keysFor returns the keys that may have signed a token with this header: those
// of its kid that are for its algorithm.
func (v *Verifier) keysFor(ctx context.Context, header map[string]any) (jwt.VerificationKeySet, error) {
	var set jwt.VerificationKeySet
	if _, ok := header["crit"]; ok {
		return set, errors.New("critical header extensions, which nobody here understands")
	}
	alg, _ := header["alg"].(string)
	kid := ""
	if value, ok := header["kid"]; ok {
		if kid, ok = value.(string); !ok || len(kid) > maxKeyID {
			return set, errors.New("a kid that is no string, or too long")
		}
	}
	known := slices.Collect(keysOf(v.cfg.Keys, kid))
	if len(known) == 0 && v.jwks != nil {
		var err error
		if known, err = v.jwks.find(ctx, kid); err != nil {
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
