package token

import (
	"bytes"

	"github.com/golang-jwt/jwt/v5"
)

// payload is a token's second part as the JWT library carries it: bytes that
// are JSON, nothing more. Its claims are read by parseClaims once the signature
// is known to be right, so the library sees none of them.
type payload struct{ raw []byte }

var _ jwt.Claims = (*payload)(nil)

// UnmarshalJSON keeps a copy of b.
func (p *payload) UnmarshalJSON(b []byte) error {
	p.raw = bytes.Clone(b)
	return nil
}

// MarshalJSON returns the bytes as they are.
func (p *payload) MarshalJSON() ([]byte, error) { return p.raw, nil }

func (p *payload) GetExpirationTime() (*jwt.NumericDate, error) { return nil, nil }
func (p *payload) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil }
func (p *payload) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }
func (p *payload) GetIssuer() (string, error)                   { return "", nil }
func (p *payload) GetSubject() (string, error)                  { return "", nil }
func (p *payload) GetAudience() (jwt.ClaimStrings, error)       { return nil, nil }
