package authfn

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/token"
)

// A mintRequest asks for a token.
type mintRequest struct {
	User     push.UserID     `json:"user"`
	TTL      string          `json:"ttl"` // a duration like "90m"; default 1h, 1s to 720h (30 days)
	Channels []push.Channel  `json:"channels"`
	Topics   []string        `json:"topics"`
	Info     json.RawMessage `json:"info"`
}

// A mintAnswer is a token and when it ends.
type mintAnswer struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
}

// mint answers with a new token. The key's name goes to the log, the user's and
// the token do not.
func (h *Handler) mint(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	refuse := func(outcome string, p *push.Problem) {
		h.metrics.mints.WithLabelValues(outcome).Inc()
		serve.Problem(w, r, p)
	}
	holder, ok := h.cfg.APIKeys.Holder(r.Header)
	if !ok {
		refuse("unauthorized", push.NewProblem(push.CodeUnauthorized, "an API key is due, in X-API-Key or as Authorization: Bearer"))
		return
	}
	if h.minter == nil {
		refuse("no_key", push.NewProblem(push.CodeNotFound, "no tokens are minted here: TOKEN_KEYS has no key that can sign"))
		return
	}
	body, p := serve.Body(w, r, maxMintBody)
	var req mintRequest
	if p == nil {
		p = serve.DecodeBytes(body, &req)
	}
	var grant token.Grant
	if p == nil {
		grant, p = req.grant()
	}
	if p == nil && (push.Halved(body, req.User) || push.Halved(body, req.Channels...) || push.Halved(body, req.Topics...)) {
		// A token of U+FFFD would be everybody's whose name has lost half a character.
		p = push.NewProblem(push.CodeInvalidValue, "user, a channel or a topic holds half a character: one of a pair of \\u escapes is missing")
	}
	if p != nil {
		refuse("rejected", p)
		return
	}
	text, expiresAt, err := h.minter.Mint(grant)
	if rejection, ok := errors.AsType[*token.Rejection](err); ok {
		refuse("rejected", push.NewProblem(push.CodeInvalidValue, "%s", rejection.Reason))
		return
	}
	if err != nil {
		h.log.Error("token not minted", "key", holder, "err", err)
		refuse("failed", push.NewProblem(push.CodeInternal, "the token could not be signed"))
		return
	}
	h.metrics.mints.WithLabelValues("minted").Inc()
	h.log.Info("token minted", "key", holder, "expires_at", expiresAt)
	serve.JSON(w, http.StatusCreated, mintAnswer{Token: text, ExpiresAt: expiresAt})
}

// grant returns what req asks for; the minter has the last word on it.
func (req mintRequest) grant() (token.Grant, *push.Problem) {
	g := token.Grant{User: req.User, Channels: req.Channels, Topics: req.Topics, Info: req.Info}
	if string(req.Info) == "null" {
		g.Info = nil
	}
	if req.TTL == "" {
		return g, nil // the minter's default
	}
	ttl, err := time.ParseDuration(req.TTL)
	if err != nil || ttl < token.MinTTL || ttl > token.MaxTTL {
		return g, push.NewProblem(push.CodeInvalidValue, "ttl is a duration like \"90m\", from %s to %s", token.MinTTL, token.MaxTTL)
	}
	g.TTL = ttl
	return g, nil
}
