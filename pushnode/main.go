// Command pushnode runs one push node: it holds the WebSockets of users and is
// told by Dispatch what to push to them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushcluster/pushnode/address"
	"pushcluster/pushnode/cursorpost"
	"pushcluster/pushnode/garbage"
	"pushcluster/pushnode/node"
	"pushcluster/pushnode/verify"
	"pushcluster/shared/clock"
	"pushcluster/shared/handoff"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/secret"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
	"pushcluster/shared/store"
	"pushcluster/shared/store/storeurl"
	"pushcluster/shared/telemetry"
)

// A Config is what the environment says.
type Config struct {
	Listen         string              `env:"LISTEN" envDefault:":8711" help:"address of the public port: WebSocket, /healthz, /readyz"`
	InternalListen string              `env:"INTERNAL_LISTEN" envDefault:":8811" help:"address of the internal port: node API, /metrics, pprof; never behind the public balancer"`
	NodeAddr       string              `env:"NODE_ADDR" help:"host[:port] of the internal port as others reach it; default: ECS metadata, else a private address of this machine"`
	ECSMetadata    string              `env:"ECS_CONTAINER_METADATA_URI_V4" help:"set by ECS: where a task learns its address"`
	AuthURL        string              `env:"AUTH_URL,required" help:"base URL of Auth: http[s]://host:port, or lambda://function"`
	RedisURL       string              `env:"REDIS_URL,required" secret:"true" help:"redis[s]://host/db, redis[s]+cluster://a,b or redis[s]+sentinel://a,b/master"`
	DispatchRPCURL string              `env:"DISPATCH_RPC_URL" help:"base URL of Dispatch, http[s]://host:port; with a SQLite store cursors are written through it"`
	StoreURL       string              `env:"STORE_URL,required" secret:"true" help:"mongodb://… or sqlite:FILE"`
	SigningSecrets secret.List         `env:"SIGNING_SECRETS,required" help:"secrets that our own services sign with, newest first, comma-separated; each whsec_… or at least 24 characters"`
	Origins        node.Origins        `env:"ORIGINS" help:"page origins that may connect besides the node's own host, as https://shop.example, separated by commas; * for all"`
	DrainTime      time.Duration       `env:"DRAIN_TIME" envDefault:"20s" help:"over how long connections are closed after a signal to stop, 1ms to 1h"`
	PingInterval   time.Duration       `env:"PING_INTERVAL" envDefault:"25s" help:"time between pings to a client, 1s to 1h"`
	Sockets        node.Sockets        `env:"SOCKETS" help:"who reads the sockets: epoll (event loops; Linux) or goroutine (one each); default: epoll where there is one"`
	MaxConnections int                 `env:"MAX_CONNECTIONS" envDefault:"0" help:"connections this node takes; 0: no limit"`
	EMFInterval    time.Duration       `env:"EMF_INTERVAL" envDefault:"0s" help:"time between lines of figures for CloudWatch in the log, for scaling and alarms on AWS, 1s to 1h; 0: none"`
	EMFNamespace   telemetry.Namespace `env:"EMF_NAMESPACE" envDefault:"pushcluster" help:"CloudWatch namespace of the figures in the log, of its own for each cluster of an account"`
	LogLevel       slog.Level          `env:"LOG_LEVEL" envDefault:"INFO" help:"DEBUG, INFO, WARN or ERROR"`
}

// Check returns what is wrong with c as a whole.
func (c *Config) Check() error {
	_, secrets := signature.ParseKeys(c.SigningSecrets)
	errs := []error{
		serve.Named("LISTEN", serve.CheckListen(c.Listen)),
		serve.Named("INTERNAL_LISTEN", serve.CheckListen(c.InternalListen)),
		serve.Named("AUTH_URL", verify.CheckURL(c.AuthURL)),
		serve.Named("REDIS_URL", registry.CheckURL(c.RedisURL)),
		serve.Named("STORE_URL", storeurl.Check(c.StoreURL)),
		serve.Named("SIGNING_SECRETS", secrets),
		serve.Named("DRAIN_TIME", serve.Between(c.DrainTime, time.Millisecond, time.Hour)),
		serve.Named("PING_INTERVAL", serve.Between(c.PingInterval, time.Second, time.Hour)), // clients are told seconds
	}
	if c.NodeAddr != "" {
		errs = append(errs, serve.Named("NODE_ADDR", address.Check(c.NodeAddr)))
	}
	if c.postsCursors() {
		errs = append(errs, serve.Named("DISPATCH_RPC_URL", cursorpost.CheckURL(c.DispatchRPCURL)))
	}
	if c.MaxConnections < 0 {
		errs = append(errs, fmt.Errorf("MAX_CONNECTIONS: %d is negative", c.MaxConnections))
	}
	if c.EMFInterval != 0 {
		errs = append(errs, serve.Named("EMF_INTERVAL", serve.Between(c.EMFInterval, time.Second, time.Hour)))
	}
	return errors.Join(errs...)
}

// postsCursors reports whether cursors are written through Dispatch.
func (c *Config) postsCursors() bool {
	return c.DispatchRPCURL != "" && strings.HasPrefix(c.StoreURL, "sqlite:")
}

// redisBuffers holds a pipeline of connects. What is read of a long log comes in
// more pieces.
const redisBuffers = 8 << 10

func main() {
	os.Exit(serve.Main(serve.Program[Config]{
		Name: "pushnode", About: "holds WebSocket connections and pushes messages to them", Run: run}))
}

func run(ctx context.Context, cfg Config, stderr io.Writer) error {
	log := telemetry.NewLog(stderr, "pushnode", cfg.LogLevel)
	registry.LogTo(log)
	prom := telemetry.NewRegistry("pushnode")
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
	reg, err := registry.Open(cfg.RedisURL, st, registry.Config{Now: clock.Now(), Buffers: redisBuffers})
	if err != nil {
		return fmt.Errorf("REDIS_URL: %w", err)
	}
	defer reg.Close()
	internal, err := serve.Listen(ctx, "INTERNAL_LISTEN", cfg.InternalListen)
	if err != nil {
		return err
	}
	id, err := nodeID(ctx, cfg, internal)
	if err != nil {
		internal.Close()
		return err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second}
	defer transport.CloseIdleConnections()
	signing := &http.Client{Transport: &signature.Transport{Signer: signature.NewSigner(keys), Base: transport, Now: reg.Now}}
	asking, err := handoff.RPC(cfg.AuthURL, signing)
	if err != nil {
		return fmt.Errorf("AUTH_URL: %w", err)
	}
	defer asking.CloseIdleConnections()
	verifier, err := verify.New(verify.Config{}, cfg.AuthURL, asking, reg.Now, prom)
	if err != nil {
		return fmt.Errorf("AUTH_URL: %w", err)
	}
	defer verifier.Wait()
	var nodeStore store.Store = st
	if cfg.postsCursors() {
		if nodeStore, err = cursorpost.New(st, cfg.DispatchRPCURL, signing); err != nil {
			return fmt.Errorf("DISPATCH_RPC_URL: %w", err)
		}
	}
	n, err := node.New(node.Config{
		ID: id, Build: telemetry.Version(), Origins: cfg.Origins, DrainTime: cfg.DrainTime, PingInterval: cfg.PingInterval, MaxConnections: cfg.MaxConnections, Sockets: cfg.Sockets,
	}, verifier, reg, nodeStore, log, prom)
	if err != nil {
		return err
	}
	defer writeFigures(ctx, cfg, stderr, log, prom)()
	public, err := serve.Listen(ctx, "LISTEN", cfg.Listen)
	if err != nil {
		internal.Close()
		return fmt.Errorf("public port: %w", err)
	}
	defer keepGarbage(ctx, prom)()
	return n.Serve(ctx, node.Ports{
		Public: public, Internal: internal, Mux: telemetry.Internal(prom),
		Callers: signature.NewVerifier(signature.VerifierConfig{Now: reg.Now}, keys),
	}, prom)
}

// writeFigures begins to write what scaling and alarms on AWS need into the log,
// where that is wanted. What it returns ends it, with what happened last: the
// node's drain is worth seeing too.
func writeFigures(ctx context.Context, cfg Config, stderr io.Writer, log *slog.Logger, prom *prometheus.Registry) (stop func()) {
	if cfg.EMFInterval <= 0 {
		return func() {}
	}
	emf := telemetry.NewEMF(stderr, cfg.EMFNamespace, "pushnode", prom, log, "pushnode_connections", "pushnode_lease_events_total/event",
		"pushnode_connections_closed_total/reason", "pushnode_dropped_total/reason", "serve_panics_total")
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { emf.Run(ctx, cfg.EMFInterval) })
	return func() {
		cancel()
		running.Wait()
	}
}

// keepGarbage begins to decide when garbage is collected. What it returns ends it.
func keepGarbage(ctx context.Context, prom *prometheus.Registry) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { _ = garbage.New(garbage.Config{}, prom).Run(ctx) }) // its error is ctx's
	return func() {
		cancel()
		running.Wait()
	}
}

// nodeID names this incarnation after its address and a nonce.
func nodeID(ctx context.Context, cfg Config, internal net.Listener) (push.NodeID, error) {
	_, port, err := net.SplitHostPort(internal.Addr().String())
	if err != nil {
		return "", err
	}
	direct := &http.Transport{DisableKeepAlives: true} // no proxy reaches what ECS tells this task
	finder := address.Finder{Configured: cfg.NodeAddr, MetadataURI: cfg.ECSMetadata, Client: &http.Client{Timeout: 2 * time.Second, Transport: direct}}
	addr, err := finder.Find(ctx, port)
	if err != nil {
		return "", err
	}
	return node.NewID(addr), nil
}
