package callback

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

const (
	sweepTime     = 20 * time.Second // for one look at what is due
	leastTime     = 2 * time.Second  // that must be left of a schedule's time to begin another look
	keepTime      = 5 * time.Second  // to keep what was told
	claimTime     = time.Minute      // longer than a look and what is kept after it
	sourcesAtOnce = 8
)

// A Store is the part of the durable store that callbacks use.
type Store interface {
	ClaimCallbacks(ctx context.Context, now, until time.Time, limit int) ([]store.Callback, error)
	KeepCallbacks(ctx context.Context, entries []store.Callback) error
	LoadMessages(ctx context.Context, ids []push.MessageID) (map[push.MessageID]store.Record, error)
	LoadOutbox(ctx context.Context, ids []push.MessageID) (map[push.MessageID]store.OutboxRecord, error)
	Places(ctx context.Context, id push.MessageID, channels []push.Channel) (map[push.Channel]store.Place, error)
	ListDevices(ctx context.Context, q store.DevicesQuery) ([]store.DeviceState, error)
}

// Sources says where each source wants to be told; source.Live is one.
type Sources interface {
	Set(ctx context.Context) *source.Set
}

// A Config holds what may be tuned. Zero values stand for the defaults.
type Config struct {
	Every time.Duration // between looks at what is due; 1 s
	Limit int           // entries claimed at once; 200
	// ParkAfter is how long an entry may fail, and how long before it is forgotten
	// one is parked of which nobody knows how to tell it; 24 h.
	ParkAfter time.Duration
	// Between tries at a source that fails: RetryFirst, then twice as long each
	// time up to RetryMost, half of it by chance. 5 s, 10 min.
	RetryFirst time.Duration
	RetryMost  time.Duration
	Now        func() time.Time // nil: time.Now
}

func (c Config) withDefaults() Config {
	c.Every = cmp.Or(c.Every, time.Second)
	c.Limit = cmp.Or(c.Limit, 200)
	c.ParkAfter = cmp.Or(c.ParkAfter, 24*time.Hour)
	c.RetryFirst = cmp.Or(c.RetryFirst, 5*time.Second)
	c.RetryMost = cmp.Or(c.RetryMost, 10*time.Minute)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// A Sweeper tells sources what became of their messages. Several processes may
// run one at once.
type Sweeper struct {
	cfg     Config
	store   Store
	sources Sources
	poster  *Poster
	log     *slog.Logger
	metrics *metrics

	mu      sync.Mutex // guards what follows
	failing map[string]failure
}

// A failure is a source that could not be told, and that is left alone for a
// while.
type failure struct {
	tries  int
	until  time.Time
	reason string
}

// New returns a sweeper, whose poster stays the caller's to close. It does no I/O
// and starts nothing.
func New(cfg Config, st Store, sources Sources, poster *Poster, log *slog.Logger, reg prometheus.Registerer) *Sweeper {
	return &Sweeper{cfg: cfg.withDefaults(), store: st, sources: sources, poster: poster, log: log,
		metrics: newMetrics(reg), failing: make(map[string]failure)}
}

// Run looks at what is due every Config.Every until ctx ends, and returns ctx's
// error.
func (s *Sweeper) Run(ctx context.Context) error {
	beat := time.NewTicker(s.cfg.Every)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
			if err := s.work(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("callbacks not worked through", "err", err)
			}
		}
	}
}

// RunSchedule does once what Run does at each of its beats.
func (s *Sweeper) RunSchedule(ctx context.Context) error {
	if err := s.work(ctx); err != nil {
		return fmt.Errorf("work through the callbacks: %w", err)
	}
	return nil
}

// work looks at what is due until nothing is, or no time is left.
func (s *Sweeper) work(ctx context.Context) error {
	for {
		if end, ok := ctx.Deadline(); ok && time.Until(end) < leastTime {
			return nil // what is left is due the next time
		}
		n, err := s.Sweep(ctx)
		if err != nil {
			s.metrics.errors.Inc()
			return err
		}
		if n < s.cfg.Limit {
			return nil
		}
	}
}

// Sweep claims what is due, at most Config.Limit entries, and tells what there
// is to tell of each. It returns how many entries it claimed. An entry of which it
// cannot keep what it told stays claimed for a minute, and is told again.
func (s *Sweeper) Sweep(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	now := s.cfg.Now()
	claimed, err := s.store.ClaimCallbacks(ctx, now, now.Add(claimTime), s.cfg.Limit)
	if err != nil || len(claimed) == 0 {
		return 0, err
	}
	set := s.sources.Set(ctx)
	bySource := make(map[string][]*store.Callback)
	for i := range claimed {
		bySource[claimed[i].Source] = append(bySource[claimed[i].Source], &claimed[i])
	}
	var g errgroup.Group
	g.SetLimit(sourcesAtOnce)
	for name, entries := range bySource {
		g.Go(func() error {
			target, err := targetOf(ctx, set, name)
			if err != nil && !lasting(err) {
				return s.postpone(ctx, name, err, entries)
			}
			return s.sweepSource(ctx, name, target, err, entries)
		})
	}
	return len(claimed), g.Wait()
}

// errNoTarget means that nobody wants to be told.
var errNoTarget = errors.New("the source is not there, or names no callback any more")

// targetOf returns where the source of that name wants to be told, or why it
// cannot be.
func targetOf(ctx context.Context, set *source.Set, name string) (*source.Callback, error) {
	src, err := set.Source(ctx, name)
	switch {
	case errors.Is(err, source.ErrNone), err == nil && (src.Callback == nil || src.Callback.Signer == nil):
		return nil, errNoTarget
	case err != nil:
		return nil, err
	}
	return src.Callback, nil
}

// lasting reports whether what keeps a source from being told stays so until
// somebody changes it.
func lasting(why error) bool {
	_, wrong := source.Lasting(why)
	return wrong || errors.Is(why, errNoTarget)
}

// postpone has entries wait for a source of which nobody knows at the moment how
// it is told. That is no failure of theirs, and what failed before begins anew.
// However long it lasts it parks none, but for those that would soon be forgotten,
// which somebody has to see first.
func (s *Sweeper) postpone(ctx context.Context, name string, why error, entries []*store.Callback) error {
	now := s.cfg.Now()
	due, over := now, ctx.Err() != nil // our own time was over, which says nothing of the source
	if !over {
		due = s.fails(name, why, now)
	}
	list := make([]store.Callback, len(entries))
	for i, c := range entries {
		c.DueAt = due
		if !over {
			c.FailingSince, c.Reason = time.Time{}, push.Clip(why.Error(), mostReason)
		}
		if !over && !now.Before(c.Until.Add(-s.cfg.ParkAfter)) {
			s.park(c, c.Reason)
		} else {
			s.metrics.callback(name, outcomePostponed)
		}
		list[i] = *c
	}
	return s.keep(ctx, list...)
}

// sweepSource tells one source of its claimed entries, or has them fail for the
// reason why if that is not nil.
func (s *Sweeper) sweepSource(ctx context.Context, name string, target *source.Callback, why error, entries []*store.Callback) error {
	records, unreadable, err := s.load(ctx, entries)
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(postsAtOnce)
	for _, c := range entries {
		g.Go(func() error {
			r, ok := records[c.Message]
			switch {
			case unreadable[c.Message] != nil:
				s.park(c, fmt.Sprintf("the message's record cannot be read: %v", unreadable[c.Message]))
			case !ok: // it is forgotten
				c.State = store.CallbackEnded
			case why != nil:
				s.failed(c, name, why)
			default:
				if err := s.look(ctx, target, c, &r.Message); err != nil {
					return err // its claim ends by itself
				}
			}
			return s.keep(ctx, *c)
		})
	}
	return g.Wait()
}

// keep keeps what became of entries, also when the time for the look is over.
func (s *Sweeper) keep(ctx context.Context, entries ...store.Callback) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTime)
	defer cancel()
	return s.store.KeepCallbacks(ctx, entries)
}

// load returns the records of entries, as [store.LoadReadable] does.
func (s *Sweeper) load(ctx context.Context, entries []*store.Callback) (map[push.MessageID]store.Record, map[push.MessageID]error, error) {
	ids := make([]push.MessageID, len(entries))
	for i, c := range entries {
		ids[i] = c.Message
	}
	return store.LoadReadable(ctx, ids, s.store.LoadMessages)
}
