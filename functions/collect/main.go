// Collect takes messages from business systems, keeps them and hands them to
// Dispatch. Run it with -h for its environment variables.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"pushcluster/functions/collect/address"
	"pushcluster/functions/collect/callback"
	"pushcluster/functions/collect/collectfn"
	"pushcluster/functions/collect/limit"
	"pushcluster/functions/collect/source"
	"pushcluster/shared/handoff"
	"pushcluster/shared/registry"
	"pushcluster/shared/secret"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
	"pushcluster/shared/store/storeurl"
	"pushcluster/shared/telemetry"
)

// Config is Collect's environment.
type Config struct {
	Listen         string              `env:"LISTEN" envDefault:":8702" help:"address of the public port: the API, /healthz, /readyz"`
	InternalListen string              `env:"INTERNAL_LISTEN" envDefault:":8802" help:"address of the internal port: /metrics, profiles"`
	LogLevel       slog.Level          `env:"LOG_LEVEL" envDefault:"INFO" help:"DEBUG, INFO, WARN or ERROR"`
	StoreURL       string              `env:"STORE_URL,required" secret:"true" help:"where messages are kept: mongodb://… or sqlite:FILE"`
	DispatchURL    string              `env:"DISPATCH_URL,required" help:"how messages are handed to Dispatch: http[s]://HOST:PORT, lambda://FUNCTION or sqs://QUEUE"`
	DispatchRPCURL string              `env:"DISPATCH_RPC_URL" help:"how Dispatch is asked about connections, at once: http[s]://HOST:PORT or lambda://FUNCTION; empty: as DISPATCH_URL, if that is one of these"`
	APIKeys        secret.Keys         `env:"API_KEYS,required" help:"name:secret,… of who may send; a name may occur again with another secret"`
	Sources        string              `env:"SOURCES" help:"path of the file that says who may post webhooks and what becomes of them; empty: only those of PUT /v1/sources"`
	CallbackAllow  []netip.Prefix      `env:"CALLBACK_ALLOW" help:"networks of your own that callbacks of sources may go to, as 10.0.0.0/8,fd00::/8; empty: the Internet alone"`
	APILimits      limit.Keys          `env:"API_LIMITS" help:"NAME:RATE or NAME:RATE:BURST,… of how often the holder of each API key may ask, as shop:100/s:200; * is every other name; empty: as often as they like"`
	RedisURL       string              `env:"REDIS_URL" secret:"true" help:"where limits are counted: redis[s]://host/db, redis[s]+cluster://a,b or redis[s]+sentinel://a,b/master; empty: each process counts by itself"`
	TrustedProxies address.Prefixes    `env:"TRUSTED_PROXIES" help:"networks of the proxies before this program, whose X-Forwarded-For says where a webhook comes from; empty: none is believed"`
	EMFNamespace   telemetry.Namespace `env:"EMF_NAMESPACE" envDefault:"pushcluster" help:"CloudWatch namespace of the figures in the log, of its own for each cluster of an account"`
	SigningSecrets secret.List         `env:"SIGNING_SECRETS,required" help:"secrets that our own services sign with, newest first, comma-separated; each whsec_… or at least 24 characters"`
}

// Check returns what is wrong with c as a whole.
func (c *Config) Check() error {
	keys, secrets := signature.ParseKeys(c.SigningSecrets)
	signer := signature.NewSigner(keys)
	_, dispatch := handoff.New(c.DispatchURL, handoff.Config{}, signer)
	errs := []error{
		serve.Named("LISTEN", serve.CheckListen(c.Listen)),
		serve.Named("INTERNAL_LISTEN", serve.CheckListen(c.InternalListen)),
		serve.Named("STORE_URL", storeurl.Check(c.StoreURL)),
		serve.Named("SIGNING_SECRETS", secrets),
		serve.Named("DISPATCH_URL", dispatch),
		serve.Named("API_LIMITS", c.APILimits.Check(c.APIKeys.Has)),
	}
	if c.DispatchRPCURL != "" { // else it is as DISPATCH_URL, of which enough is said
		asker, err := handoff.NewAsker(c.DispatchRPCURL, signer)
		if err == nil {
			asker.Close()
		}
		errs = append(errs, serve.Named("DISPATCH_RPC_URL", err))
	}
	if c.APIKeys.Len() == 0 {
		errs = append(errs, errors.New("API_KEYS: there is no key in it"))
	}
	if c.RedisURL != "" {
		errs = append(errs, serve.Named("REDIS_URL", registry.CheckURL(c.RedisURL)))
	}
	if c.Sources != "" {
		errs = append(errs, serve.Named("SOURCES", source.CheckPath(c.Sources)))
	}
	return errors.Join(errs...)
}

// asker returns who asks Dispatch, nil if nobody can: a queue does not answer.
func (c *Config) asker(signer *signature.Signer) (*handoff.Asker, error) {
	url := c.DispatchRPCURL
	if url == "" {
		if strings.HasPrefix(c.DispatchURL, "sqs:") {
			return nil, nil
		}
		url = c.DispatchURL
	}
	return handoff.NewAsker(url, signer)
}

func main() {
	os.Exit(serve.Main(serve.Program[Config]{Name: "collect", About: "takes messages from business systems and hands them to Dispatch", Run: run, Garbage: serve.ServiceGarbage}))
}

func run(ctx context.Context, cfg Config, stderr io.Writer) error {
	log := telemetry.NewLog(stderr, "collect", cfg.LogLevel)
	reg := telemetry.NewRegistry("collect")
	keys, err := signature.ParseKeys(cfg.SigningSecrets)
	if err != nil {
		return fmt.Errorf("SIGNING_SECRETS: %w", err)
	}
	dispatch, err := handoff.New(cfg.DispatchURL, handoff.Config{}, signature.NewSigner(keys))
	if err != nil {
		return fmt.Errorf("DISPATCH_URL: %w", err)
	}
	defer dispatch.Close()
	st, err := storeurl.Open(ctx, cfg.StoreURL, storeurl.Config{Connections: serve.Pool(ctx)})
	if err != nil {
		return fmt.Errorf("STORE_URL: %w", err)
	}
	defer st.Close()
	if err := st.Prepare(ctx); err != nil {
		return fmt.Errorf("prepare the store: %w", err)
	}
	asker, err := cfg.asker(signature.NewSigner(keys))
	if err != nil {
		return fmt.Errorf("DISPATCH_RPC_URL: %w", err)
	}
	collectConfig := collectfn.Config{Keys: cfg.APIKeys, KeyLimits: cfg.APILimits, Proxies: cfg.TrustedProxies}
	if cfg.RedisURL != "" {
		registry.LogTo(log)
		limiter, err := registry.OpenLimiter(cfg.RedisURL, registry.LimiterConfig{Connections: serve.Pool(ctx)})
		if err != nil {
			return fmt.Errorf("REDIS_URL: %w", err)
		}
		defer limiter.Close()
		collectConfig.Limits = limit.NewShared(limiter, nil)
	}
	if asker != nil {
		defer asker.Close()
		collectConfig.Questions = asker
	}
	secrets := secret.NewResolver(os.Getenv)
	defer secrets.Close()
	sources, stop, err := source.Follow(ctx, source.Config{Path: cfg.Sources}, st, secrets.Resolve, log, reg)
	if err != nil {
		if wrong := new(source.Fault); errors.As(err, &wrong) {
			return fmt.Errorf("SOURCES: %w: %w", serve.ErrConfig, err)
		}
		return fmt.Errorf("SOURCES: %w", err)
	}
	defer stop()
	collectConfig.Sources, collectConfig.Stored = sources, sources
	collect, err := collectfn.New(collectConfig, st, dispatch, log, reg)
	if err != nil {
		return err
	}
	poster := callback.NewPoster(callback.PosterConfig{Allow: cfg.CallbackAllow})
	defer poster.Close()
	callbacks := callback.New(callback.Config{}, st, sources, poster, log, reg)
	public := serve.Wrap("public", collect, log, reg)
	emf := telemetry.NewEMF(stderr, cfg.EMFNamespace, "collect", reg, log, "collect_messages_total/outcome", "collect_requests_refused_total",
		"collect_outbox_total/reason", "collect_handoff_seconds", "collect_webhooks_total/outcome", "collect_limits_total/outcome", "collect_callbacks_total/outcome", "serve_panics_total")
	events := serve.Events{HTTP: public, Schedule: callbacks, After: emf.Flush}
	g, ctx := errgroup.WithContext(ctx)
	if !serve.OnLambda(ctx) { // there the schedule stands in for it
		g.Go(func() error {
			callbacks.Run(ctx) // ends with ctx alone
			return nil
		})
	}
	g.Go(func() error {
		return serve.Start(ctx, log, events,
			serve.Server{Name: "public", Env: "LISTEN", Addr: cfg.Listen, Handler: public},
			serve.Server{Name: "internal", Env: "INTERNAL_LISTEN", Addr: cfg.InternalListen,
				Handler: serve.Wrap("internal", telemetry.Internal(reg), log, reg)},
		)
	})
	return g.Wait()
}
