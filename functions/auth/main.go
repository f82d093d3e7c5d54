// Auth verifies and mints connection tokens. Run it with -h for its
// environment variables.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"pushcluster/functions/auth/authfn"
	"pushcluster/shared/push"
	"pushcluster/shared/secret"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
	"pushcluster/shared/store"
	"pushcluster/shared/store/storeurl"
	"pushcluster/shared/telemetry"
	"pushcluster/shared/token"
)

// Config is Auth's environment.
type Config struct {
	Listen         string              `env:"LISTEN" envDefault:":8701" help:"address of the public port: the API, /healthz, /readyz"`
	InternalListen string              `env:"INTERNAL_LISTEN" envDefault:":8801" help:"address of the internal port: /metrics, profiles"`
	LogLevel       slog.Level          `env:"LOG_LEVEL" envDefault:"INFO" help:"DEBUG, INFO, WARN or ERROR"`
	SigningSecrets secret.List         `env:"SIGNING_SECRETS,required" help:"secrets that our own services sign with, newest first, comma-separated; each whsec_… or at least 24 characters"`
	APIKeys        secret.Keys         `env:"API_KEYS" help:"name:secret,… of who may mint tokens; none: nobody may"`
	StoreURL       string              `env:"STORE_URL" secret:"true" help:"where revocations are kept: mongodb://… or sqlite:FILE; empty: no token is ever revoked"`
	TokenKeys      token.Keys          `env:"TOKEN_KEYS" help:"this or JWKS_URL is required: kid:alg:key,… newest first; alg HS256…, RS256…, ES256… or EdDSA; key a secret (32 bytes or more, or base64:…), or PEM with \\n, or base64 DER; the first that can sign mints"`
	JWKSURL        string              `env:"JWKS_URL" help:"where public keys are fetched from, besides TOKEN_KEYS or in their place"`
	TokenIssuer    string              `env:"TOKEN_ISSUER" help:"what a token's iss must be; empty: anything"`
	TokenAudience  string              `env:"TOKEN_AUDIENCE" help:"what a token's aud must be or hold; empty: anything"`
	EMFNamespace   telemetry.Namespace `env:"EMF_NAMESPACE" envDefault:"pushcluster" help:"CloudWatch namespace of the figures in the log, of its own for each cluster of an account"`
}

// Check returns what is wrong with c as a whole.
func (c *Config) Check() error {
	var errs []error
	if len(c.TokenKeys) == 0 && c.JWKSURL == "" {
		errs = append(errs, errors.New("TOKEN_KEYS or JWKS_URL: one of them is required"))
	}
	_, secrets := signature.ParseKeys(c.SigningSecrets)
	errs = append(errs,
		serve.Named("LISTEN", serve.CheckListen(c.Listen)),
		serve.Named("INTERNAL_LISTEN", serve.CheckListen(c.InternalListen)),
		serve.Named("SIGNING_SECRETS", secrets))
	if c.StoreURL != "" {
		errs = append(errs, serve.Named("STORE_URL", storeurl.Check(c.StoreURL)))
	}
	if c.JWKSURL != "" {
		errs = append(errs, serve.Named("JWKS_URL", token.CheckJWKS(c.JWKSURL)))
	}
	return errors.Join(errs...)
}

func main() {
	os.Exit(serve.Main(serve.Program[Config]{Name: "auth", About: "verifies and mints connection tokens", Run: run, Garbage: serve.ServiceGarbage}))
}

func run(ctx context.Context, cfg Config, stderr io.Writer) error {
	log := telemetry.NewLog(stderr, "auth", cfg.LogLevel)
	reg := telemetry.NewRegistry("auth")
	signing, err := signature.ParseKeys(cfg.SigningSecrets)
	if err != nil {
		return fmt.Errorf("SIGNING_SECRETS: %w", err)
	}
	tokens := token.Config{
		Keys: cfg.TokenKeys, JWKSURL: cfg.JWKSURL,
		Issuer: cfg.TokenIssuer, Audience: cfg.TokenAudience,
	}
	client := &http.Client{} // of the JWKS; the verifier sets the deadlines
	defer client.CloseIdleConnections()
	verifier, err := token.NewVerifier(tokens, client, time.Now, log, reg)
	if err != nil {
		return err
	}
	minter, err := token.NewMinter(tokens, time.Now)
	if err != nil && !errors.Is(err, token.ErrNoKey) { // then Auth only verifies
		return err
	}
	revocations, closeStore, err := openRevocations(ctx, cfg.StoreURL)
	if err != nil {
		return err
	}
	defer closeStore()
	auth, err := authfn.New(authfn.Config{
		Callers: signature.NewVerifier(signature.VerifierConfig{}, signing),
		APIKeys: cfg.APIKeys, Revocations: revocations,
	}, verifier, minter, log, reg)
	if err != nil {
		return err
	}
	public := serve.Wrap("public", auth, log, reg)
	emf := telemetry.NewEMF(stderr, cfg.EMFNamespace, "auth", reg, log, "auth_verifications_total/result", "auth_mints_total/outcome", "serve_panics_total")
	return serve.Start(ctx, log, serve.Events{HTTP: public, Auth: auth, After: emf.Flush},
		serve.Server{Name: "public", Env: "LISTEN", Addr: cfg.Listen, Handler: public},
		serve.Server{Name: "internal", Env: "INTERNAL_LISTEN", Addr: cfg.InternalListen,
			Handler: serve.Wrap("internal", telemetry.Internal(reg), log, reg)},
	)
}

// openRevocations opens the store at url, if there is one. The caller calls
// what it returns at the end. It does not wait for the store: Auth tells whose
// tokens are as soon as what is revoked can be read.
func openRevocations(ctx context.Context, url string) (authfn.Revocations, func(), error) {
	if url == "" {
		return nil, func() {}, nil
	}
	st, err := storeurl.Open(ctx, url, storeurl.Config{Connections: serve.Pool(ctx)})
	if err != nil {
		return nil, nil, fmt.Errorf("STORE_URL: %w", err)
	}
	return &prepared{Store: st}, func() { _ = st.Close() }, nil
}

// A prepared store is prepared before it is first asked: its file may be new.
type prepared struct {
	store.Store
	mu   sync.Mutex // guards what follows
	done bool
}

// ListRevocations lists what is revoked; see [store.Control].
func (p *prepared) ListRevocations(ctx context.Context, now time.Time) ([]push.Revocation, error) {
	if err := p.prepare(ctx); err != nil {
		return nil, err
	}
	return p.Store.ListRevocations(ctx, now)
}

func (p *prepared) prepare(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return nil
	}
	err := p.Store.Prepare(ctx)
	p.done = err == nil
	return err
}
