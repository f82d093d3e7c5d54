package collectfn

import (
	"context"
	"errors"
	"net/http"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/store"
)

// Limits of revocations.
const (
	maxRevocations   = 10_000               // that have not ended: Auth reads all of them every 2 s
	maxRevokeAhead   = 400 * 24 * time.Hour // from now to until
	defaultRevokeFor = 30 * 24 * time.Hour  // as long as a token that Auth mints can live
	maxTokenID       = 1024                 // bytes of jti
	maxRevokeBody    = 16 << 10             // bytes
)

// A revokeInput is a revocation as it is asked for.
type revokeInput struct {
	User  *push.UserID `json:"user"`
	JTI   *string      `json:"jti"`
	Until *string      `json:"until"`
}

// revocation returns what in asks for at now.
func (in *revokeInput) revocation(now time.Time) (push.Revocation, error) {
	r := push.Revocation{At: now, Until: now.Add(defaultRevokeFor)}
	switch {
	case (in.User == nil) == (in.JTI == nil):
		return r, errors.New("one of user and jti is due")
	case in.User != nil:
		if err := in.User.Check(); err != nil {
			return r, err
		}
		r.User = *in.User
	case *in.JTI == "" || len(*in.JTI) > maxTokenID:
		return r, errors.New("jti must have 1 to 1,024 bytes")
	default:
		r.TokenID = *in.JTI
	}
	if in.Until != nil {
		until, err := time.Parse(time.RFC3339, *in.Until)
		if err != nil {
			return r, errors.New(`until must be a time like "2030-01-31T09:30:00Z"`)
		}
		r.Until = until.UTC().Truncate(time.Millisecond)
	}
	if !r.Until.After(now) || r.Until.Sub(now) > maxRevokeAhead {
		return r, errors.New("until must lie ahead, by at most 400 days")
	}
	return r, nil
}

// revoke has tokens count no more and closes what they opened, with 3500: POST
// /v1/revocations. A user's tokens are those issued up to now. It is kept before
// nodes are asked, and may be sent again if they do not answer.
func (h *Handler) revoke(w http.ResponseWriter, r *http.Request) {
	sender, ok := h.holder(w, r)
	if !ok {
		return
	}
	var in revokeInput
	body, p := serve.Body(w, r, maxRevokeBody)
	if p == nil {
		p = serve.DecodeBytes(body, &in)
	}
	var revocation push.Revocation
	if p == nil {
		var err error
		if revocation, err = in.revocation(h.now()); err == nil && push.Halved(body, string(revocation.User), revocation.TokenID) {
			err = errors.New("it names whom it is for with half a character")
		}
		if err != nil {
			p = push.NewProblem(push.CodeInvalidValue, "%v", err)
		}
	}
	if p != nil {
		h.refuse(w, r, p)
		return
	}
	err := h.store.AddRevocation(r.Context(), revocation, revocation.At, maxRevocations)
	if errors.Is(err, store.ErrFull) {
		h.refuse(w, r, push.NewProblem(push.CodeTooManyRequests, "%d revocations are in force, no more are kept", maxRevocations))
		return
	}
	if !h.answered(w, r, err) {
		return
	}
	var answer push.DisconnectAnswer
	if !h.ask(w, r, func(ctx context.Context) (err error) {
		answer, err = h.cfg.Questions.Revoke(ctx, push.RevokeRequest{Revocation: revocation})
		return err
	}) {
		return
	}
	h.metrics.orders.WithLabelValues("revoke").Inc()
	h.log.Info("tokens revoked", "key", sender, "of_user", revocation.User != "", "until", revocation.Until,
		"closed", answer.Closed, "unanswered", len(answer.Unanswered))
	serve.JSON(w, http.StatusOK, answer)
}
