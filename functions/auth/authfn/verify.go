package authfn

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/token"
)

// verify answers whose a token is. Why a token does not count goes to the log
// alone: whoever shows a forged one learns nothing.
func (h *Handler) verify(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	var req push.VerifyRequest
	if p := serve.Decode(w, r, maxVerifyBody, &req); p != nil {
		serve.Problem(w, r, p)
		return
	}
	identity, err := h.judge(r.Context(), req.Token)
	if err != nil {
		serve.Problem(w, r, problemOf(err))
		return
	}
	serve.JSON(w, http.StatusOK, identity)
}

// problemOf returns what is said of a token that judge has refused.
func problemOf(err error) *push.Problem {
	switch {
	case errors.Is(err, token.ErrExpired):
		return push.NewProblem(push.CodeTokenExpired, "the token was good once; a new one is needed")
	case errors.Is(err, token.ErrInvalid):
		return push.NewProblem(push.CodeTokenInvalid, "the token is not one that counts here")
	}
	return push.NewProblem(push.CodeUnavailable, "what decides on the token could not be looked up now")
}

// judge returns whose a token is, and counts it. Its error wraps
// token.ErrExpired or token.ErrInvalid, which a revoked token is too, or says
// why nobody can tell now.
func (h *Handler) judge(ctx context.Context, presented string) (push.Identity, error) {
	identity, err := h.verifier.Verify(ctx, presented)
	return h.conclude(ctx, identity, err)
}

// judgeNow is judge for a token that others came with: its error wraps
// token.ErrNotNow, and nothing is counted, where a key would have to be fetched.
func (h *Handler) judgeNow(ctx context.Context, presented string) (push.Identity, error) {
	identity, err := h.verifier.VerifyNow(presented)
	if errors.Is(err, token.ErrNotNow) {
		return push.Identity{}, err
	}
	return h.conclude(ctx, identity, err)
}

// conclude looks whether the token that says identity was revoked, unless the
// verifier has refused it with err, and counts what came of it.
func (h *Handler) conclude(ctx context.Context, identity push.Identity, err error) (push.Identity, error) {
	revoked := false
	if err == nil {
		revoked, err = h.revoked.covers(ctx, &identity)
	}
	result := "unavailable"
	switch {
	case err == nil && revoked:
		result, err = "revoked", fmt.Errorf("%w: it was revoked", token.ErrInvalid)
	case err == nil:
		result = resultOK
	case errors.Is(err, token.ErrExpired):
		result = "expired"
	case errors.Is(err, token.ErrInvalid):
		result = "invalid"
		h.log.Debug("token refused", "err", err)
	default:
		h.log.Warn("token not checked", "err", err)
	}
	h.metrics.judged(result)
	return identity, err
}
