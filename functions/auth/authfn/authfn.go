// Package authfn is Auth: it tells our own services whose a connection token
// is, and mints tokens for business systems.
//
//	POST /v1/auth/verify  {token} → push.Identity; signed by our own services
//	POST /v1/auth/verify/batch  {tokens} → one push.VerifyResult for each; signed as well
//	POST /v1/tokens       {user, ttl, channels, topics, info} → 201 {token, expires_at}; with an API key
//	GET  /healthz, /readyz
//
// It keeps nothing but a copy of what was revoked, at most 2 s old: every answer
// follows from the token, the keys, that list and the time.
package authfn

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushcluster/shared/push"
	"pushcluster/shared/secret"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
	"pushcluster/shared/token"
)

// Limits of bodies, in bytes. A token's worst case in JSON is six bytes a
// character.
const (
	maxVerifyBody = 6*push.MaxToken + 1<<10
	maxBatchBody  = push.MaxTokensBytes + 8*push.MaxTokens + 1<<10 // in a batch they need no escapes
	maxMintBody   = 64 << 10
)

// Config says who may ask, and which tokens count no more.
type Config struct {
	Callers     *signature.Verifier // who may ask whose a token is; required
	APIKeys     secret.Keys         // who may mint; none: nobody
	Revocations Revocations         // nil: no token is ever revoked
	Now         func() time.Time    // by which revocations end; nil means time.Now
}

// A Handler answers Auth's requests.
type Handler struct {
	cfg      Config
	verifier *token.Verifier
	minter   *token.Minter
	log      *slog.Logger
	metrics  *metrics
	revoked  *revokedList
	mux      *http.ServeMux
}

// New returns Auth's handler. Without a minter (nil: there is no key to sign
// with) /v1/tokens answers 404. It does no I/O and starts nothing.
func New(cfg Config, verifier *token.Verifier, minter *token.Minter, log *slog.Logger, reg prometheus.Registerer) (*Handler, error) {
	if cfg.Callers == nil {
		return nil, errors.New("authfn: Config.Callers is missing: anybody could ask")
	}
	if verifier == nil {
		return nil, errors.New("authfn: there is no verifier")
	}
	h := &Handler{
		cfg: cfg, verifier: verifier, minter: minter, log: log,
		metrics: newMetrics(reg), mux: http.NewServeMux(),
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	h.revoked = newRevokedList(cfg.Revocations, cfg.Now, log, h.metrics)
	health := serve.Health(log,
		serve.Check{Name: "jwks", Probe: verifier.Ready},
		serve.Check{Name: "revocations", Probe: h.revoked.ready})
	h.mux.Handle("GET /healthz", health)
	h.mux.Handle("GET /readyz", health)
	h.mux.Handle("POST /v1/auth/verify", signature.Require(cfg.Callers, maxVerifyBody, http.HandlerFunc(h.verify)))
	h.mux.Handle("POST /v1/auth/verify/batch", signature.Require(cfg.Callers, maxBatchBody, http.HandlerFunc(h.verifyBatch)))
	h.mux.HandleFunc("POST /v1/tokens", h.mint)
	return h, nil
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }
