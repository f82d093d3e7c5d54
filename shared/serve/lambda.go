package serve

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

// runtimeAPI is set by Lambda: where a function fetches its events.
const runtimeAPI = "AWS_LAMBDA_RUNTIME_API"

// How often a function's secrets are looked at again, and how long that may take.
const (
	refreshEvery   = time.Minute
	refreshTimeout = 3 * time.Second // to fetch the secrets and to start over with them; see refreshTime
)

// refreshTime returns how long an event may look at the secrets that must be
// answered before it has taken left: half of that at most, so that it is answered
// with the old ones when nobody tells the new.
func refreshTime(left time.Duration) time.Duration { return min(refreshTimeout, left/2) }

type generationKey struct{}

// A generation is one run of a program's Run on Lambda, with one state of its
// configuration.
type generation struct {
	cancel context.CancelFunc
	ready  chan Events // what it answers, once it can
	ended  chan error  // what Run returned
}

// OnLambda reports whether the program of ctx runs as a Lambda function: then
// nothing may run outside an event, for the machine stands still there.
func OnLambda(ctx context.Context) bool {
	_, ok := ctx.Value(generationKey{}).(*generation)
	return ok
}

// Pool returns how many connections to one server a program should hold at most:
// few on Lambda, where a process answers one event at a time and there may be a
// thousand processes; elsewhere 0, which leaves it to whoever connects.
func Pool(ctx context.Context) int {
	if OnLambda(ctx) {
		return 5
	}
	return 0
}

// Start runs a program where it was started: on Lambda it answers events,
// elsewhere it serves servers as [Run] does. It returns nil when ctx ends.
func Start(ctx context.Context, log *slog.Logger, events Events, servers ...Server) error {
	g, ok := ctx.Value(generationKey{}).(*generation)
	if !ok {
		return Run(ctx, log, servers...)
	}
	g.ready <- events
	<-ctx.Done()
	return nil
}

// A function is a program on Lambda. When a value that its environment names
// by ARN or file has changed, it starts over with the new value, between two events;
// when that fails, it goes on with the old one.
type function struct {
	load  func(context.Context) (values map[string]string, begin func() *generation, err error)
	log   *slog.Logger
	watch bool // there are secrets that may change

	refreshing sync.Mutex // held by the event that looks at the secrets
	checked    time.Time  // guarded by refreshing
	values     map[string]string

	died chan *generation // gets those that end without having been told to

	mu     sync.RWMutex // held for reading while an event is answered; guards what follows
	gen    *generation
	events Events
}

// Invoke answers one event.
func (f *function) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	if f.watch && f.refreshing.TryLock() {
		f.refresh(ctx)
		f.refreshing.Unlock()
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.events.Answer(ctx, payload, f.log)
}

// refresh looks at the secrets, if that is due, and starts over if they have
// changed.
func (f *function) refresh(ctx context.Context) {
	now := time.Now()
	if now.Sub(f.checked) < refreshEvery {
		return
	}
	f.checked = now
	within := refreshTimeout
	if end, ok := ctx.Deadline(); ok {
		within = refreshTime(end.Sub(now))
	}
	ctx, cancel := context.WithDeadline(ctx, now.Add(within))
	defer cancel()
	values, begin, err := f.load(ctx)
	if err != nil {
		f.log.Warn("the configuration could not be read again; the old one stays", "err", err)
		return
	}
	if maps.Equal(values, f.values) {
		return
	}
	next := begin()
	select {
	case events := <-next.ready:
		f.mu.Lock()
		last := f.gen
		f.gen, f.events, f.values = next, events, values
		f.mu.Unlock()
		last.cancel()
		<-last.ended
		f.log.Info("a secret has changed; started over with it")
	case err := <-next.ended:
		next.cancel()
		f.log.Error("a secret has changed, but cannot be used; the old one stays", "err", err)
	case <-ctx.Done():
		next.cancel()
		<-next.ended
		f.log.Error("a secret has changed, but starting over took too long; the old one stays", "err", ctx.Err())
	}
}

// function runs p on Lambda until ctx ends and returns the exit code. listen
// answers events with what it is given and does not return.
func (p Program[C]) function(ctx context.Context, getenv func(string) string, stderr io.Writer, listen func(lambda.Handler)) int {
	f := &function{log: slog.New(slog.NewJSONHandler(stderr, nil)).With("program", p.Name), checked: time.Now(), died: make(chan *generation, 1)}
	f.load = func(loading context.Context) (map[string]string, func() *generation, error) {
		cfg, values, err := load[C](loading, getenv)
		return values, func() *generation { return p.begin(ctx, cfg, stderr, f.died) }, err
	}
	for _, v := range variablesOf[C]() {
		value := getenv(v.name)
		f.watch = f.watch || strings.HasPrefix(value, "arn:") || strings.HasPrefix(value, "file:")
	}
	values, begin, err := f.load(ctx)
	if err != nil {
		p.complain(stderr, err)
		return 2
	}
	f.values, f.gen = values, begin()
	defer func() { f.current().cancel() }()
	select {
	case f.events = <-f.gen.ready:
	case err := <-f.gen.ended:
		fmt.Fprintf(stderr, "%s: %v\n", p.Name, err)
		return 1
	case <-ctx.Done():
		<-f.gen.ended
		return 0
	}
	go listen(f) // nothing can end it but the end of the process
	for {
		select {
		case <-ctx.Done():
			<-f.current().ended
			return 0
		case g := <-f.died:
			if g == f.current() {
				fmt.Fprintf(stderr, "%s: %v\n", p.Name, <-g.ended)
				return 1
			}
		}
	}
}

func (f *function) current() *generation {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.gen
}

// begin starts a generation, which lasts until it is cancelled or ctx ends. One
// that ends otherwise is sent to died.
func (p Program[C]) begin(ctx context.Context, cfg C, stderr io.Writer, died chan<- *generation) *generation {
	g := &generation{ready: make(chan Events, 1), ended: make(chan error, 1)}
	ctx, g.cancel = context.WithCancel(context.WithValue(ctx, generationKey{}, g))
	go func() {
		g.ended <- p.Run(ctx, cfg, stderr)
		if ctx.Err() == nil {
			died <- g
		}
	}()
	return g
}

// listenLambda answers the events of Lambda's runtime API with h. It ends with
// the process.
func listenLambda(h lambda.Handler) { lambda.StartWithOptions(h) }
