package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/serve"
	"pushcluster/shared/telemetry"
)

// readyPace is how often /readyz is asked while a process starts.
const readyPace = 10 * time.Millisecond

// A Process is one component of a stack. It lives in the stack's own process,
// but has ports and connections to Redis of its own, so that it can be stopped
// and killed as if it were one. Its methods may be called by several
// goroutines, and wait for each other.
type Process struct {
	Name     string // "auth", "collect", "dispatch", "page", "node 1"
	URL      string // base URL of the public port; the same after a restart
	Internal string // base URL of the internal port: /metrics; empty for the page

	stack            *Stack
	isNode           bool
	public, internal *door
	run              func(ctx context.Context, l *life) error

	changing sync.Mutex // held by Start, Stop and Kill; guards the doors

	mu     sync.Mutex  // guards what follows
	life   *life       // nil while it does not run
	nodeID push.NodeID // of the present or last incarnation
}

// A life is one run of a process. A restart is a new one.
type life struct {
	log              *slog.Logger
	early            startLog                  // what is behind log
	node             atomic.Pointer[node.Node] // set by who runs one, before it is ready
	prom             *prometheus.Registry
	public, internal *listener
	nodeID           push.NodeID // empty for what is no node
	store            *cutStore
	registry         *registry.Registry // dials nothing until it is used

	stop context.CancelFunc
	done chan struct{} // closed when run has returned; err is set then
	err  error
}

// reserve opens the ports, so that the URLs are known before the process runs.
func (p *Process) reserve(ctx context.Context) error {
	p.changing.Lock()
	defer p.changing.Unlock()
	err := errors.Join(p.public.reserve(ctx), p.internal.reserve(ctx))
	p.URL, p.Internal = p.public.url(), p.internal.url()
	return err
}

// release closes ports that were reserved for a process that never ran.
func (p *Process) release() {
	p.changing.Lock()
	defer p.changing.Unlock()
	p.public.release()
	p.internal.release()
}

// Start starts the process, at the address that it had before if it ran
// before, and returns when its /readyz answers 200. If ctx ends first, or the
// process ends, it is stopped again and the error says why. Starting a process
// that runs changes nothing.
func (p *Process) Start(ctx context.Context) error {
	p.changing.Lock()
	defer p.changing.Unlock()
	if p.Running() {
		return nil
	}
	l, err := p.begin(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	if err := awaitReady(ctx, p.URL, l.done); err != nil {
		l.stop()
		<-l.done
		l.early.started(true)
		if !errors.Is(l.err, context.Canceled) { // which it was told
			err = errors.Join(err, l.err)
		}
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	l.early.started(false)
	return nil
}

// begin opens the ports and starts run on them.
func (p *Process) begin(ctx context.Context) (*life, error) {
	public, err := p.public.open(ctx)
	if err != nil {
		return nil, err
	}
	internal, err := p.internal.open(ctx)
	if err != nil {
		public.cut()
		return nil, err
	}
	early := newStartLog(p.stack.cfg.Log.Handler())
	l := &life{
		early: early, log: slog.New(early).With("program", p.Name),
		prom: telemetry.NewRegistry(p.Name), public: public, internal: internal,
		store: &cutStore{Store: p.stack.Store}, done: make(chan struct{}),
	}
	if l.registry, err = registry.Open(p.stack.redisURL, l.store, p.stack.cfg.Registry); err != nil {
		public.cut()
		internal.cut()
		return nil, err
	}
	running, stop := context.WithCancel(context.Background())
	l.stop = stop
	if p.isNode {
		l.nodeID = node.NewID(internal.Addr().String())
	}
	p.mu.Lock()
	p.life, p.nodeID = l, l.nodeID
	p.mu.Unlock()
	go func() {
		l.err = p.run(running, l)
		l.registry.Close()
		public.cut() // in case run ended before it served them
		internal.cut()
		p.mu.Lock()
		p.life = nil
		p.mu.Unlock()
		close(l.done)
		if running.Err() == nil && !l.store.isCut() {
			p.stack.fail(fmt.Errorf("%s ended: %w", p.Name, l.err))
		}
	}()
	return l, nil
}

// Running reports whether the process runs.
func (p *Process) Running() bool { return p.current() != nil }

// NodeID returns the id of a node's present incarnation, or of its last one;
// empty for what is no node.
func (p *Process) NodeID() push.NodeID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nodeID
}

func (p *Process) current() *life {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life
}

// Stop ends the process as SIGTERM does, and returns when it has ended: a node
// drains first. It returns what went wrong. A process that does not run is
// left alone.
func (p *Process) Stop() error {
	p.changing.Lock()
	defer p.changing.Unlock()
	l := p.current()
	if l == nil {
		return nil
	}
	l.stop()
	<-l.done
	if l.err != nil && !errors.Is(l.err, context.Canceled) {
		return fmt.Errorf("stop %s: %w", p.Name, l.err)
	}
	return nil
}

// Kill ends the process as SIGKILL does: at once its ports are closed, its
// connections reset, and it reaches neither Redis nor the store any more. What
// it had there stays: a node's lease and its routes. Kill returns when nothing
// of it is left.
func (p *Process) Kill() {
	p.changing.Lock()
	defer p.changing.Unlock()
	l := p.current()
	if l == nil {
		return
	}
	l.store.cut()
	l.registry.Close() // before the ports: a node whose port fails drains, and would give up its lease
	if n := l.node.Load(); n != nil {
		n.Cut()
	}
	l.public.cut()
	l.internal.cut()
	l.stop()
	<-l.done
}

// serve serves the handlers on the life's ports until ctx ends. A nil internal
// leaves the internal port out.
func (l *life) serve(ctx context.Context, public, internal http.Handler) error {
	return l.servePlain(ctx, false, public, internal)
}

// servePlain is serve with a public port that is Plain, or not.
func (l *life) servePlain(ctx context.Context, plain bool, public, internal http.Handler) error {
	servers := []serve.Server{{
		Name: "public", Listener: l.public, Grace: grace, Plain: plain, Handler: serve.Wrap("public", public, l.log, l.prom)}}
	if internal != nil {
		servers = append(servers, serve.Server{
			Name: "internal", Listener: l.internal, Grace: grace, Handler: serve.Wrap("internal", internal, l.log, l.prom)})
	}
	return serve.Run(ctx, l.log, servers...)
}

// awaitReady returns nil when /readyz at base answers 200. It gives up when ctx
// ends or done is closed; then its error has what /readyz last answered, if it
// did.
func awaitReady(ctx context.Context, base string, done <-chan struct{}) error {
	// A client of its own: what it leaves open is closed with it.
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Transport: transport}
	t := time.NewTicker(readyPace)
	defer t.Stop()
	var why error // not that time is up, which says nothing, if there is anything else to say
	for {
		err := ready(ctx, client, base)
		if err == nil {
			return nil
		}
		if why == nil || ctx.Err() == nil {
			why = err
		}
		select {
		case <-done:
			return errors.New("it ended while it started")
		case <-ctx.Done():
			return fmt.Errorf("not ready in time: %w", why)
		case <-t.C:
		}
	}
}

func ready(ctx context.Context, client *http.Client, base string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var p push.Problem
		_ = json.NewDecoder(io.LimitReader(resp.Body, 4<<10)).Decode(&p) // without a detail the status has to do
		return fmt.Errorf("%s/readyz answers %s: %s", base, resp.Status, p.Detail)
	}
	return nil
}
