// Dispatch gives messages their places in channels and brings them to push
// nodes. Run it with -h for its environment variables.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/sync/errgroup"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/clock"
	"pushcluster/shared/nodeclient"
	"pushcluster/shared/registry"
	"pushcluster/shared/secret"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
	"pushcluster/shared/store/storeurl"
	"pushcluster/shared/telemetry"
)

// Config is Dispatch's environment.
type Config struct {
	Listen         string              `env:"LISTEN" envDefault:":8703" help:"address of the public port, which Collect alone reaches: /v1/dispatch…, /healthz, /readyz"`
	InternalListen string              `env:"INTERNAL_LISTEN" envDefault:":8803" help:"address of the internal port: /metrics, profiles"`
	LogLevel       slog.Level          `env:"LOG_LEVEL" envDefault:"INFO" help:"DEBUG, INFO, WARN or ERROR"`
	StoreURL       string              `env:"STORE_URL,required" secret:"true" help:"where messages are kept: mongodb://… or sqlite:FILE"`
	RedisURL       string              `env:"REDIS_URL,required" secret:"true" help:"redis[s]://host/db, redis[s]+cluster://a,b or redis[s]+sentinel://a,b/master"`
	SigningSecrets secret.List         `env:"SIGNING_SECRETS,required" help:"secrets that our own services sign with, newest first, comma-separated; each whsec_… or at least 24 characters"`
	EMFNamespace   telemetry.Namespace `env:"EMF_NAMESPACE" envDefault:"pushcluster" help:"CloudWatch namespace of the figures in the log, of its own for each cluster of an account"`
}

// Check returns what is wrong with c as a whole.
func (c *Config) Check() error {
	_, secrets := signature.ParseKeys(c.SigningSecrets)
	return errors.Join(
		serve.Named("LISTEN", serve.CheckListen(c.Listen)),
		serve.Named("INTERNAL_LISTEN", serve.CheckListen(c.InternalListen)),
		serve.Named("STORE_URL", storeurl.Check(c.StoreURL)),
		serve.Named("REDIS_URL", registry.CheckURL(c.RedisURL)),
		serve.Named("SIGNING_SECRETS", secrets))
}

func main() {
	os.Exit(serve.Main(serve.Program[Config]{Name: "dispatch", About: "gives messages their places in channels and brings them to push nodes", Run: run, Garbage: serve.ServiceGarbage}))
}

func run(ctx context.Context, cfg Config, stderr io.Writer) error {
	log := telemetry.NewLog(stderr, "dispatch", cfg.LogLevel)
	prom := telemetry.NewRegistry("dispatch")
	registry.LogTo(log)
	keys, err := signature.ParseKeys(cfg.SigningSecrets)
	if err != nil {
		return fmt.Errorf("SIGNING_SECRETS: %w", err)
	}
	st, err := storeurl.Open(ctx, cfg.StoreURL, storeurl.Config{Connections: serve.Pool(ctx)})
	if err != nil {
		return fmt.Errorf("STORE_URL: %w", err)
	}
	defer st.Close()
	if err := st.Prepare(ctx); err != nil {
		return fmt.Errorf("prepare the store: %w", err)
	}
	reg, err := registry.Open(cfg.RedisURL, st, registry.Config{Now: clock.Now()})
	if err != nil {
		return fmt.Errorf("REDIS_URL: %w", err)
	}
	defer reg.Close()
	nodes := nodeclient.New(nodeclient.Config{}, signature.NewSigner(keys), reg.Now, prom)
	defer nodes.Close()
	dispatch, err := dispatchfn.New(dispatchfn.Config{}, reg, st, nodes, log, prom)
	if err != nil {
		return err
	}
	defer dispatch.Wait()
	callers := signature.NewVerifier(signature.VerifierConfig{Now: reg.Now}, keys)
	public := serve.Wrap("public", dispatch.Public(callers), log, prom)
	emf := telemetry.NewEMF(stderr, cfg.EMFNamespace, "dispatch", prom, log, "dispatch_messages_total/outcome", "dispatch_entries_pushed_total",
		"dispatch_entries_not_pushed_total/reason", "dispatch_outbox_total/outcome", "dispatch_sweep_errors_total", "dispatch_seconds", "dispatch_panics_total", "serve_panics_total")
	events := serve.Events{HTTP: public, Queue: dispatch, Schedule: dispatch, After: emf.Flush}
	g, ctx := errgroup.WithContext(ctx)
	if !serve.OnLambda(ctx) { // there the schedule stands in for it
		g.Go(func() error { return dispatch.Run(ctx) })
	}
	g.Go(func() error {
		return serve.Start(ctx, log, events,
			serve.Server{Name: "public", Env: "LISTEN", Addr: cfg.Listen, Plain: true, Handler: public},
			serve.Server{Name: "internal", Env: "INTERNAL_LISTEN", Addr: cfg.InternalListen,
				Handler: serve.Wrap("internal", telemetry.Internal(prom), log, prom)},
		)
	})
	return g.Wait()
}
