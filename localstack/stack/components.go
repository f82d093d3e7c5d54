package stack

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/functions/auth/authfn"
	"pushcluster/functions/collect/callback"
	"pushcluster/functions/collect/collectfn"
	"pushcluster/functions/collect/limit"
	"pushcluster/functions/collect/source"
	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/localstack/page"
	"pushcluster/pushnode/node"
	"pushcluster/pushnode/verify"
	"pushcluster/shared/handoff"
	"pushcluster/shared/nodeclient"
	"pushcluster/shared/registry"
	"pushcluster/shared/secret"
	"pushcluster/shared/signature"
	"pushcluster/shared/telemetry"
	"pushcluster/shared/token"
)

// Each of these functions wires one component as its main.go does, and serves
// it until ctx ends.

func (s *Stack) runAuth(ctx context.Context, l *life) error {
	cfg := token.Config{Keys: s.keys.tokens}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	verifier, err := token.NewVerifier(cfg, client, time.Now, l.log, l.prom)
	if err != nil {
		return err
	}
	minter, err := token.NewMinter(cfg, time.Now)
	if err != nil {
		return err
	}
	auth, err := authfn.New(authfn.Config{
		Callers: signature.NewVerifier(signature.VerifierConfig{}, s.keys.signing), APIKeys: s.keys.api, Revocations: l.store,
	}, verifier, minter, l.log, l.prom)
	if err != nil {
		return err
	}
	return l.serve(ctx, auth, telemetry.Internal(l.prom))
}

func (s *Stack) runCollect(ctx context.Context, l *life) error {
	dispatch, err := handoff.New(s.Dispatch.URL, handoff.Config{}, signature.NewSigner(s.keys.signing))
	if err != nil {
		return err
	}
	defer dispatch.Close()
	asker, err := handoff.NewAsker(s.Dispatch.URL, signature.NewSigner(s.keys.signing))
	if err != nil {
		return err
	}
	defer asker.Close()
	limiter, err := registry.OpenLimiter(s.redisURL, registry.LimiterConfig{Timeout: 2 * time.Second}) // a test machine may be busy
	if err != nil {
		return err
	}
	defer limiter.Close()
	path, err := s.sourcesFile()
	if err != nil {
		return err
	}
	secrets := secret.NewResolver(s.lookUp)
	defer secrets.Close()
	sources, stop, err := source.Follow(ctx, source.Config{Path: path}, l.store, secrets.Resolve, l.log, l.prom)
	if err != nil {
		return err
	}
	defer stop()
	collect, err := collectfn.New(collectfn.Config{Keys: s.keys.api, Questions: asker, Sources: sources, Stored: sources,
		Limits: limit.NewShared(limiter, nil)}, l.store, dispatch, l.log, l.prom)
	if err != nil {
		return err
	}
	poster := callback.NewPoster(callback.PosterConfig{Allow: thisMachine()})
	defer poster.Close()
	callbacks := callback.New(callback.Config{}, l.store, sources, poster, l.log, l.prom)
	g, ctx := errgroup.WithContext(ctx)
	ctx, end := context.WithCancel(ctx)
	defer end()
	g.Go(func() error {
		callbacks.Run(ctx) // ends with ctx alone
		return nil
	})
	g.Go(func() error {
		defer end()
		return l.serve(ctx, collect, telemetry.Internal(l.prom))
	})
	return g.Wait()
}

// thisMachine is where callbacks may go besides the Internet: whoever tries them
// out receives them here.
func thisMachine() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

func (s *Stack) runDispatch(ctx context.Context, l *life) error {
	nodes := nodeclient.New(nodeclient.Config{}, signature.NewSigner(s.keys.signing), l.registry.Now, l.prom)
	defer nodes.Close()
	dispatch, err := dispatchfn.New(s.cfg.Dispatch, l.registry, l.store, nodes, l.log, l.prom)
	if err != nil {
		return err
	}
	defer dispatch.Wait()
	callers := signature.NewVerifier(signature.VerifierConfig{Now: l.registry.Now}, s.keys.signing)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return dispatch.Run(ctx) })
	g.Go(func() error { return l.servePlain(ctx, true, dispatch.Public(callers), telemetry.Internal(l.prom)) })
	return g.Wait()
}

func (s *Stack) runNode(ctx context.Context, l *life) error {
	base := &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second}
	defer base.CloseIdleConnections()
	client := &http.Client{Transport: &signature.Transport{
		Signer: signature.NewSigner(s.keys.signing), Base: base, Now: l.registry.Now}}
	verifier, err := verify.New(s.cfg.Verify, s.Auth.URL, client, l.registry.Now, l.prom)
	if err != nil {
		return err
	}
	defer verifier.Wait()
	cfg := s.cfg.Node
	cfg.ID, cfg.Build = l.nodeID, telemetry.Version()
	cfg.Origins = s.origins()
	n, err := node.New(cfg, verifier, l.registry, l.store, l.log, l.prom)
	if err != nil {
		return err
	}
	l.node.Store(n)
	return n.Serve(ctx, node.Ports{
		Public: l.public.Listener, Internal: l.internal, Grace: grace, Mux: telemetry.Internal(l.prom), // its clients' sockets are for the node to cut
		Callers: signature.NewVerifier(signature.VerifierConfig{Now: l.registry.Now}, s.keys.signing),
	}, l.prom)
}

// origins are the pages that may connect: those of the configuration, and the
// stack's own page under both names of this machine.
func (s *Stack) origins() []string {
	_, port, _ := strings.Cut(s.Page.URL, "127.0.0.1:")
	return append(slices.Clone(s.cfg.Origins), "http://127.0.0.1:"+port, "http://localhost:"+port)
}

func (s *Stack) runPage(ctx context.Context, l *life) error {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	p, err := page.New(page.Config{Collect: s.Collect.URL, APIKey: s.cfg.Keys.API}, s, client, l.log)
	if err != nil {
		return err
	}
	return l.serve(ctx, p, nil)
}
