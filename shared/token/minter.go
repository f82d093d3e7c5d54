package token

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"pushcluster/shared/push"
)

// How long a minted token counts.
const (
	DefaultTTL = time.Hour
	MinTTL     = time.Second
	MaxTTL     = 30 * 24 * time.Hour
)

// ErrNoKey means that none of the keys can sign.
var ErrNoKey = errors.New("no key to sign tokens with")

// A Rejection is why no token can say what a grant says: no verifier would take
// it. Its reason names the field and may be told to whoever asked.
type Rejection struct{ Reason string }

// Error returns the reason.
func (r *Rejection) Error() string { return "no token can say this: " + r.Reason }

func reject(format string, args ...any) error { return &Rejection{fmt.Sprintf(format, args...)} }

// A Grant is what a token is to say.
type Grant struct {
	User     push.UserID
	TTL      time.Duration // 0: DefaultTTL; else MinTTL to MaxTTL
	Channels []push.Channel
	Topics   []string
	Info     json.RawMessage
}

// A Minter signs tokens. It may be used concurrently.
type Minter struct {
	cfg Config
	key Key
	now func() time.Time
}

// NewMinter returns a minter that signs with the newest (first) of cfg.Keys
// that can sign, for cfg's issuer and audience. If none can, the error is
// [ErrNoKey].
func NewMinter(cfg Config, now func() time.Time) (*Minter, error) {
	for _, k := range cfg.Keys {
		if k.sign != nil {
			return &Minter{cfg: cfg, key: k, now: now}, nil
		}
	}
	return nil, ErrNoKey
}

// Mint returns a token that says what g says, under a new id, and when it
// expires, to the second. When it was issued it tells to the millisecond, so
// that a user who was revoked may come back at once. What a verifier would refuse is a
// [*Rejection].
func (m *Minter) Mint(g Grant) (text string, expiresAt time.Time, err error) {
	if g.TTL == 0 {
		g.TTL = DefaultTTL
	}
	if g.TTL < MinTTL || g.TTL > MaxTTL {
		return "", time.Time{}, reject("ttl %s is not between %s and %s", g.TTL, MinTTL, MaxTTL)
	}
	if err := g.check(); err != nil {
		return "", time.Time{}, reject("%s", err)
	}
	now := m.now().UTC()
	expiresAt = now.Add(g.TTL).Truncate(time.Second)
	if !expiresAt.After(now) {
		expiresAt = expiresAt.Add(time.Second)
	}
	body, err := json.Marshal(struct {
		Subject  push.UserID     `json:"sub"`
		Expires  int64           `json:"exp"`
		IssuedAt float64         `json:"iat"`
		ID       string          `json:"jti"`
		Issuer   string          `json:"iss,omitempty"`
		Audience string          `json:"aud,omitempty"`
		Channels []push.Channel  `json:"channels,omitempty"`
		Topics   []string        `json:"topics,omitempty"`
		Info     json.RawMessage `json:"info,omitempty"`
	}{g.User, expiresAt.Unix(), float64(now.UnixMilli()) / 1000, rand.Text(), m.cfg.Issuer, m.cfg.Audience, g.Channels, g.Topics, g.Info})
	if err != nil {
		return "", time.Time{}, reject("info is not JSON")
	}
	t := jwt.NewWithClaims(jwt.GetSigningMethod(m.key.Alg), &payload{raw: body})
	if m.key.ID != "" {
		t.Header["kid"] = m.key.ID
	}
	text, err = t.SignedString(m.key.sign)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign with key %s: %w", m.key, err)
	}
	if len(text) > push.MaxToken {
		return "", time.Time{}, reject("the token would be %d bytes long, more than %d", len(text), push.MaxToken)
	}
	return text, expiresAt, nil
}

func (g Grant) check() error {
	if err := g.User.Check(); err != nil {
		return err
	}
	names := make([]string, len(g.Channels))
	for i, ch := range g.Channels {
		names[i] = string(ch)
	}
	if _, err := checkChannels(g.User, names); err != nil {
		return err
	}
	return checkTopics(g.Topics)
}
