package authfn

import (
	"errors"
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
	identity, err := h.verifier.Verify(r.Context(), req.Token)
	revoked := false
	if err == nil {
		revoked, err = h.revoked.covers(r.Context(), &identity)
	}
	switch {
	case err == nil && revoked:
		h.metrics.verifications.WithLabelValues("revoked").Inc()
		serve.Problem(w, r, push.NewProblem(push.CodeTokenInvalid, "the token is not one that counts here"))
	case err == nil:
		h.metrics.verifications.WithLabelValues("ok").Inc()
		serve.JSON(w, http.StatusOK, identity)
	case errors.Is(err, token.ErrExpired):
		h.metrics.verifications.WithLabelValues("expired").Inc()
		serve.Problem(w, r, push.NewProblem(push.CodeTokenExpired, "the token was good once; a new one is needed"))
	case errors.Is(err, token.ErrInvalid):
		h.metrics.verifications.WithLabelValues("invalid").Inc()
		h.log.Debug("token refused", "err", err)
		serve.Problem(w, r, push.NewProblem(push.CodeTokenInvalid, "the token is not one that counts here"))
	default:
		h.metrics.verifications.WithLabelValues("unavailable").Inc()
		h.log.Warn("token not checked", "err", err)
		serve.Problem(w, r, push.NewProblem(push.CodeUnavailable, "what decides on the token could not be looked up now"))
	}
}
