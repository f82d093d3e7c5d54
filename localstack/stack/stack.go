// Package stack runs the whole of pushcluster in one process: Auth, Collect,
// Dispatch, push nodes and the page, each with ports of its own on 127.0.0.1
// and speaking to the others by HTTP, as they do when they are programs of
// their own. Their handlers are the ones that the programs serve.
//
//	s, err := stack.Start(ctx, stack.Config{Dir: t.TempDir()})
//	defer s.Close()
//	token, err := s.Token("42")
//	… s.Nodes()[0].URL, s.Collect.URL, s.APIKey() …
//	s.Nodes()[0].Kill()        // and what then?
//	s.FlushRedis(ctx)
//
// The store is a SQLite file and Redis an embedded miniredis, unless the Config
// names others. It is for tests and for trying things out.
package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/pushnode/node"
	"pushcluster/pushnode/verify"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/store"
	"pushcluster/shared/store/storeurl"
	"pushcluster/shared/token"
)

// DemoUser is the user that the page and [Facts] have a token for.
const DemoUser push.UserID = "42"

// grace is how long requests under way may take when a process stops.
const grace = time.Second

// A Config says what a stack is made of. Only Dir is required.
type Config struct {
	Dir      string // an existing directory, for the store's file
	Nodes    int    // 0: 2
	StoreURL string // empty: sqlite:DIR/store.db
	RedisURL string // empty: an embedded miniredis, whose keys expire as time passes
	Keys     Keys   // zero: new random ones
	Ports    Ports  // zero: free ones
	Origins  []string
	Sources  string // a file of webhook sources; empty: DIR/sources.yaml, which begins as an example

	Node     node.Config   // of every node; ID and Origins are the stack's. DrainTime and CloseTimeout: 0 means 1 s
	Verify   verify.Config // of every node
	Dispatch dispatchfn.Config
	Registry registry.Config // of Dispatch and every node
	Log      *slog.Logger    // of all components; nil: none
}

// A Stack is a running system. Its methods may be called by several goroutines.
type Stack struct {
	Page, Auth, Collect, Dispatch *Process
	Store                         store.Store // what all components share; closed by Close

	cfg      Config
	keys     keyRing
	minter   *token.Minter
	redis    *embedded // nil if RedisURL names one
	redisURL string
	failed   chan error // holds the first error of a process that ended by itself

	mu    sync.Mutex // guards what follows
	nodes []*Process // all that ever were
}

// Start starts a stack and returns when every /readyz answers 200. ctx bounds
// the start alone; the caller ends the stack with [Stack.Close].
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	s, err := prepare(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := s.startAll(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// prepare opens everything that the processes share.
func prepare(ctx context.Context, cfg Config) (*Stack, error) {
	if cfg.Dir == "" {
		return nil, errors.New("stack: Config.Dir is missing")
	}
	if cfg.Nodes == 0 {
		cfg.Nodes = 2
	}
	if cfg.StoreURL == "" {
		cfg.StoreURL = "sqlite:" + filepath.Join(cfg.Dir, "store.db")
	}
	if cfg.Keys == (Keys{}) {
		cfg.Keys = NewKeys()
	}
	if cfg.Keys.GitHub == "" {
		cfg.Keys.GitHub = NewKeys().GitHub
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Node.DrainTime == 0 {
		cfg.Node.DrainTime = time.Second
	}
	if cfg.Node.CloseTimeout == 0 {
		cfg.Node.CloseTimeout = time.Second
	}
	s := &Stack{cfg: cfg, redisURL: cfg.RedisURL, failed: make(chan error, 1)}
	var err error
	if s.keys, err = cfg.Keys.parse(); err != nil {
		return nil, fmt.Errorf("stack: Config.Keys: %w", err)
	}
	if s.minter, err = token.NewMinter(token.Config{Keys: s.keys.tokens}, time.Now); err != nil {
		return nil, err
	}
	if s.Store, err = storeurl.Open(ctx, cfg.StoreURL, storeurl.Config{}); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	if err := s.Store.Prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the store: %w", err), s.Store.Close())
	}
	if s.redisURL == "" {
		if s.redis, err = startEmbedded(); err != nil {
			return nil, errors.Join(err, s.Store.Close())
		}
		s.redisURL = s.redis.url()
	}
	return s, nil
}

// startAll opens all ports, and then starts the processes, whoever is needed by
// others first: those wait for it in their own /readyz.
func (s *Stack) startAll(ctx context.Context) error {
	p := s.cfg.Ports
	s.Auth = s.newProcess("auth", newDoor("AUTH_PORT", p.Auth), newDoor("AUTH_INTERNAL_PORT", p.AuthInternal), s.runAuth)
	s.Dispatch = s.newProcess("dispatch", newDoor("DISPATCH_PORT", p.Dispatch), newDoor("DISPATCH_INTERNAL_PORT", p.DispatchInternal), s.runDispatch)
	s.Collect = s.newProcess("collect", newDoor("COLLECT_PORT", p.Collect), newDoor("COLLECT_INTERNAL_PORT", p.CollectInternal), s.runCollect)
	s.Page = s.newProcess("page", newDoor("PAGE_PORT", p.Page), nil, s.runPage)
	var errs []error // every port that is taken, at once
	for range s.cfg.Nodes {
		_, err := s.newNode(ctx)
		errs = append(errs, err)
	}
	for _, p := range []*Process{s.Auth, s.Dispatch, s.Collect, s.Page} {
		errs = append(errs, p.reserve(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := startEach(ctx, s.Auth, s.Dispatch); err != nil {
		return err
	}
	if err := startEach(ctx, append(slices.Clone(s.nodes), s.Collect)...); err != nil {
		return err
	}
	return s.Page.Start(ctx)
}

// startEach starts processes all at once.
func startEach(ctx context.Context, processes ...*Process) error {
	var g errgroup.Group
	for _, p := range processes {
		g.Go(func() error { return p.Start(ctx) })
	}
	return g.Wait()
}

func (s *Stack) newProcess(name string, public, internal *door, run func(context.Context, *life) error) *Process {
	return &Process{Name: name, stack: s, public: public, internal: internal, run: run}
}

// newNode adds a node that does not run yet, and opens its ports.
func (s *Stack) newNode(ctx context.Context) (*Process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := len(s.nodes)
	port := func(first int) int {
		if first == 0 {
			return 0
		}
		return first + i
	}
	n := s.newProcess(fmt.Sprintf("node %d", i+1),
		newDoor("NODE_PORT", port(s.cfg.Ports.Node)), newDoor("NODE_INTERNAL_PORT", port(s.cfg.Ports.NodeInternal)), s.runNode)
	n.isNode = true
	s.nodes = append(s.nodes, n)
	return n, n.reserve(ctx)
}

// AddNode starts one more node and returns when it is ready.
func (s *Stack) AddNode(ctx context.Context) (*Process, error) {
	n, err := s.newNode(ctx)
	if err != nil {
		return nil, err
	}
	return n, n.Start(ctx)
}

// Node returns node i, counted from 0 in the order they were added, whether it
// runs or not.
func (s *Stack) Node(i int) *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[i]
}

// Nodes returns the nodes that run, in the order they were added.
func (s *Stack) Nodes() []*Process {
	s.mu.Lock()
	all := slices.Clone(s.nodes)
	s.mu.Unlock()
	return slices.DeleteFunc(all, func(n *Process) bool { return !n.Running() })
}

// NodeURLs returns the public base URLs of the nodes that run.
func (s *Stack) NodeURLs() []string {
	urls := []string{}
	for _, n := range s.Nodes() {
		urls = append(urls, n.URL)
	}
	return urls
}

// WebSocketURL returns where clients connect to the node whose public port has
// this base URL.
func WebSocketURL(base string) string {
	return "ws" + strings.TrimPrefix(base, "http") + "/connection/websocket"
}

// APIKey returns the key for Collect and Auth; its name is [KeyName].
func (s *Stack) APIKey() string { return s.cfg.Keys.API }

// Token returns a connection token of user.
func (s *Stack) Token(user push.UserID) (string, error) {
	return s.TokenFor(token.Grant{User: user})
}

// TokenFor returns a connection token that says what g says.
func (s *Stack) TokenFor(g token.Grant) (string, error) {
	text, _, err := s.minter.Mint(g)
	return text, err
}

// FlushRedis empties Redis while the stack runs.
func (s *Stack) FlushRedis(ctx context.Context) error {
	if s.redis != nil {
		s.redis.flush()
		return nil
	}
	return flushURL(ctx, s.redisURL)
}

// RedisURL returns the REDIS_URL of the stack's Redis.
func (s *Stack) RedisURL() string { return s.redisURL }

// StoreURL returns the STORE_URL of the stack's store.
func (s *Stack) StoreURL() string { return s.cfg.StoreURL }

// Wait returns nil when ctx ends, or the error of a process that ended without
// being told to.
func (s *Stack) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

// fail notes that a process ended by itself.
func (s *Stack) fail(err error) {
	select {
	case s.failed <- err:
	default: // the first one counts
	}
}

// Close stops everything as SIGTERM would, nodes draining, and returns when no
// goroutine of the stack is left. What the store holds stays.
func (s *Stack) Close() error {
	s.mu.Lock()
	first := append([]*Process{s.Page, s.Collect}, s.nodes...)
	s.mu.Unlock()
	err := stopAll(first)
	err = errors.Join(err, stopAll([]*Process{s.Dispatch, s.Auth}))
	for _, p := range append(first, s.Dispatch, s.Auth) {
		p.release()
	}
	if s.redis != nil {
		s.redis.close()
	}
	return errors.Join(err, s.Store.Close())
}

func stopAll(processes []*Process) error {
	errs := make([]error, len(processes))
	var wg sync.WaitGroup
	for i, p := range processes {
		wg.Go(func() { errs[i] = p.Stop() })
	}
	wg.Wait()
	return errors.Join(errs...)
}
