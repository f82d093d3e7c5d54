package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"pushcluster/shared/push"
)

// Errors that callers act on.
var (
	// ErrUnsafePolicy means that Redis may evict keys that have no expiry.
	ErrUnsafePolicy = errors.New("redis maxmemory-policy is not noeviction or volatile-*")
	// ErrUnsettled means that the term changed again and again while a call ran.
	ErrUnsettled = errors.New("the term does not settle")
	// ErrClosed is what calls get after Close.
	ErrClosed = errors.New("registry is closed")
)

// Terms is where the term outlives Redis: store.Control satisfies it.
type Terms interface {
	// Term returns the newest term, the zero Term if there was none.
	Term(ctx context.Context) (push.Term, error)
	// SwapTerm replaces the term by next if it is still old in every field, and
	// reports whether it did.
	SwapTerm(ctx context.Context, old, next push.Term) (bool, error)
	// TermLasts reports whether the newest term has this marker, and so what was
	// written before the call is there for readers in any later one.
	TermLasts(ctx context.Context, marker string) (bool, error)
}

// A Config holds what may be tuned. Zero values stand for the defaults.
type Config struct {
	Timeout    time.Duration // of each round trip to Redis; 2 s
	MaxEntries int           // a channel's log holds at most this many messages; 1,000
	MaxBytes   int           // and this many bytes of them; 1 MiB
	MaxAge     time.Duration // and none older than this; 1 h
	// Young is for how long a message stays in a log that is full, as long as that
	// holds no more than 8 times what it should: it may be on its way into the
	// inbox, and then is nowhere else; 10 s.
	Young time.Duration
	// MaxSpread bounds what one message costs Redis: if its data times the
	// number of channels it is appended to in one call is more bytes than this,
	// logs hold it without data, for readers to load from the store; 1 MiB.
	MaxSpread int
	LeaseTime time.Duration // how long a lease lasts that is not renewed; 15 s
	// Keep is how long routes live that nobody registers again, and how long a
	// channel's newest offset is known after it; 24 h.
	Keep time.Duration
	// Lanes is how many pipelines of small operations run at once; 4.
	Lanes int
	// Buffers is how many bytes each connection to Redis has for reading, and as
	// many for writing; 32 KiB.
	Buffers int
	// Now is this machine's clock; time.Now. Only its monotonic part counts: the
	// time that calls are judged by is Redis'.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	num := func(d *int, v int) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&c.Timeout, 2*time.Second)
	num(&c.MaxEntries, 1000)
	num(&c.MaxBytes, 1<<20)
	set(&c.MaxAge, time.Hour)
	set(&c.Young, 10*time.Second)
	num(&c.MaxSpread, 1<<20)
	set(&c.LeaseTime, 15*time.Second)
	set(&c.Keep, 24*time.Hour)
	num(&c.Lanes, 4)
	num(&c.Buffers, 32<<10)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// A Registry is one process' view of Redis. Its methods may be called from any
// number of goroutines. Each call ends with its context, and each round trip
// to Redis ends after Config.Timeout.
type Registry struct {
	cfg    Config
	rdb    redis.UniversalClient
	terms  Terms
	clock  clock
	lanes  *lanes
	leases leaseCopies
	script script // of Append

	term    atomic.Pointer[push.Term] // nil while none is known; written under settling, but for forget
	met     atomic.Int64              // how often there may have been another Redis: connections opened, and what primaryWatch counts
	checked atomic.Int64              // how often that was when the run id was last found right
	// In a Cluster the addresses of the primaries at that look; nil until the first.
	primaries atomic.Pointer[[]string]
	// connections are those to Redis; nil in a Cluster.
	connections *connections

	settling chan struct{} // holds one token: the right to change term

	// Guarded by settling.
	looked    time.Time // when the last look at the term began
	rival     string    // marker of the last term that was found to go on elsewhere, and
	rivalSeen time.Time // when that was first seen

	mu      sync.Mutex     // guards closed, and the groups against being waited for too early
	closed  bool           // nothing is started any more
	calls   sync.WaitGroup // callers of lanes
	running sync.WaitGroup // goroutines that outlive a caller whose context ended
}

// New returns a registry on client, which it owns from now on. It does no I/O
// and starts nothing.
func New(client redis.UniversalClient, terms Terms, cfg Config) *Registry {
	r := &Registry{
		cfg:      cfg.withDefaults(),
		rdb:      client,
		terms:    terms,
		settling: make(chan struct{}, 1),
	}
	r.settling <- struct{}{}
	r.clock.here = r.cfg.Now
	r.lanes = newLanes(r)
	r.script = newAppendScript(r.cfg)
	if cluster, ok := client.(*redis.ClusterClient); ok {
		cluster.OnNewNode(func(c *redis.Client) {
			c.AddHook(dialCounter{&r.met})
			c.AddHook(primaryWatch{r, c.Options().Addr})
		})
	} else {
		client.AddHook(dialCounter{&r.met})
		r.connections = &connections{open: make(map[*connection]struct{})}
		client.AddHook(r.connections)
	}
	return r
}

// Close waits for what is under way and closes the connections to Redis. Calls
// made afterwards fail.
func (r *Registry) Close() error {
	r.mu.Lock()
	first := !r.closed
	r.closed = true
	r.mu.Unlock()
	r.calls.Wait()
	if first {
		close(r.lanes.ended)
	}
	r.running.Wait()
	if err := r.rdb.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("close redis: %w", err)
	}
	return nil
}

// Now returns Redis' clock, as it was last heard and moved on since by this
// process' monotonic clock; the wall clock until it was first heard.
func (r *Registry) Now() time.Time { return r.clock.now() }

// Ready returns nil if Redis answers, lets us see its run id, and does not evict
// keys without expiry. A Redis that does not let us read its configuration counts
// as right.
func (r *Registry) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	if err := r.rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("ping redis: %w", err)
	}
	// Everything else that a user lacks is refused loudly. Without the run id nothing
	// would tell that Redis lost its memory.
	if err := r.rdb.Info(ctx, "server").Err(); isTransport(err) || err != nil && redis.HasErrorPrefix(err, "NOPERM") {
		return fmt.Errorf("ask redis for its run id: %w", err)
	}
	conf, err := r.rdb.ConfigGet(ctx, "maxmemory-policy").Result()
	if err != nil && isTransport(err) {
		return fmt.Errorf("ask redis for maxmemory-policy: %w", err)
	}
	policy := conf["maxmemory-policy"]
	if policy != "" && policy != "noeviction" && !strings.HasPrefix(policy, "volatile-") {
		return fmt.Errorf("%w but %s", ErrUnsafePolicy, policy)
	}
	return nil
}

// isTransport reports whether err says that there was no answer, rather than
// an answer that is an error. What a server says that turns a connection away is
// no answer.
func isTransport(err error) bool {
	var answered redis.Error
	return err != nil && (!errors.As(err, &answered) || turnedAway(err))
}

func turnedAway(err error) bool {
	return slices.ContainsFunc([]string{"max number of clients", "WRONGPASS", "NOAUTH", "LOADING"},
		func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) })
}

// enter counts a caller of lanes, who must call r.calls.Done, unless Close was
// called.
func (r *Registry) enter() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrClosed
	}
	r.calls.Add(1)
	return nil
}

// goRun runs f in a goroutine that Close waits for, unless Close was called.
func (r *Registry) goRun(f func()) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrClosed
	}
	r.running.Go(f)
	return nil
}
