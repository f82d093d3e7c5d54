// Command volatile is Dispatch without its durable write: it appends, looks up
// and pushes, but the inbox is not written. What a message costs here, taken
// from what it costs in Dispatch, is what the durable write costs. It keeps none
// of the cluster's promises and is for the benchmark alone.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/sync/errgroup"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/nodeclient"
	"pushcluster/shared/registry"
	"pushcluster/shared/secret"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
	"pushcluster/shared/store"
	"pushcluster/shared/store/storeurl"
	"pushcluster/shared/telemetry"
)

// Config is Dispatch's environment.
type Config struct {
	Listen         string      `env:"LISTEN,required" help:"address of the public port"`
	InternalListen string      `env:"INTERNAL_LISTEN,required" help:"address of the internal port"`
	LogLevel       slog.Level  `env:"LOG_LEVEL" envDefault:"INFO" help:"DEBUG, INFO, WARN or ERROR"`
	StoreURL       string      `env:"STORE_URL,required" secret:"true" help:"where the term is kept"`
	RedisURL       string      `env:"REDIS_URL,required" secret:"true" help:"redis://host/db"`
	SigningSecrets secret.List `env:"SIGNING_SECRETS,required" help:"as Dispatch's"`
}

func main() {
	os.Exit(serve.Main(serve.Program[Config]{Name: "volatile", About: "is Dispatch without the durable write, for the benchmark", Run: run, Garbage: serve.ServiceGarbage}))
}

// A noInbox is a store whose inbox takes everything and keeps nothing.
type noInbox struct{ store.Store }

func (noInbox) WriteInbox(_ context.Context, entries []store.InboxEntry) ([]store.Placement, error) {
	placed := make([]store.Placement, len(entries))
	for i := range entries {
		placed[i].Offset = entries[i].Offset
	}
	return placed, nil
}

func (noInbox) MoveInbox(context.Context, []store.InboxEntry) error { return nil }

func run(ctx context.Context, cfg Config, stderr io.Writer) error {
	log := telemetry.NewLog(stderr, "volatile", cfg.LogLevel)
	prom := telemetry.NewRegistry("volatile")
	registry.LogTo(log)
	keys, err := signature.ParseKeys(cfg.SigningSecrets)
	if err != nil {
		return fmt.Errorf("SIGNING_SECRETS: %w", err)
	}
	st, err := storeurl.Open(ctx, cfg.StoreURL, storeurl.Config{})
	if err != nil {
		return fmt.Errorf("STORE_URL: %w", err)
	}
	defer st.Close()
	if err := st.Prepare(ctx); err != nil {
		return fmt.Errorf("prepare the store: %w", err)
	}
	reg, err := registry.Open(cfg.RedisURL, st, registry.Config{})
	if err != nil {
		return fmt.Errorf("REDIS_URL: %w", err)
	}
	defer reg.Close()
	nodes := nodeclient.New(nodeclient.Config{}, signature.NewSigner(keys), reg.Now, prom)
	defer nodes.Close()
	dispatch, err := dispatchfn.New(dispatchfn.Config{}, reg, noInbox{st}, nodes, log, prom)
	if err != nil {
		return err
	}
	defer dispatch.Wait()
	callers := signature.NewVerifier(signature.VerifierConfig{Now: reg.Now}, keys)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return dispatch.Run(ctx) })
	g.Go(func() error {
		return serve.Run(ctx, log,
			serve.Server{Name: "public", Env: "LISTEN", Addr: cfg.Listen, Plain: true, Handler: serve.Wrap("public", dispatch.Public(callers), log, prom)},
			serve.Server{Name: "internal", Env: "INTERNAL_LISTEN", Addr: cfg.InternalListen,
				Handler: serve.Wrap("internal", telemetry.Internal(prom), log, prom)})
	})
	return g.Wait()
}
