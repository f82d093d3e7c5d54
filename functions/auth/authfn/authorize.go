package authfn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pushcluster/shared/serve"
	"pushcluster/shared/token"
)

// Authorize tells API Gateway whose token this is, so that a business system's
// own API takes the tokens that connections are opened with: user, and jti and
// expires_at where the token has them. It judges a token as /v1/auth/verify does.
func (h *Handler) Authorize(ctx context.Context, presented string) (map[string]string, error) {
	identity, err := h.judge(ctx, presented)
	switch {
	case errors.Is(err, token.ErrExpired), errors.Is(err, token.ErrInvalid):
		return nil, fmt.Errorf("%w: %w", serve.ErrRefused, err)
	case err != nil:
		return nil, err
	}
	known := map[string]string{"user": string(identity.User)}
	if identity.TokenID != "" {
		known["jti"] = identity.TokenID
	}
	if !identity.ExpiresAt.IsZero() {
		known["expires_at"] = identity.ExpiresAt.UTC().Format(time.RFC3339)
	}
	return known, nil
}
