package registry

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	laneQueue    = 4096 // operations that wait in one lane; more wait to be let in
	laneBatch    = 512  // operations in one pipeline
	routesPerOp  = 256  // route writes in one operation
	routesAtOnce = 4    // operations of one call under way at a time

	// laneShare is how young a pipeline under way is that an operation rather waits
	// for than have a lane to itself: near servers answer within it, and what goes
	// together costs them and us a fraction. Behind an older one nothing waits
	// while a lane is idle.
	laneShare = time.Millisecond
)

// lanes let concurrent small operations share pipelines: while one is under
// way in a lane, the next operations gather there. Each pipeline reads the
// term's marker first, for all its operations, and now and then Redis' clock.
type lanes struct {
	r       *Registry
	cluster bool // what is of several channels may be in several slots
	all     []*lane
	began   time.Time     // what moments are counted from
	ended   chan struct{} // closed when no operation comes any more
}

type lane struct {
	queue chan *op     // never closed
	busy  atomic.Int32 // one of the following
	sent  atomic.Int64 // when its last pipeline was sent

	mu      sync.Mutex // guards what follows
	running bool       // a goroutine of its own drains queue until the lanes end
}

// What a lane does.
const (
	laneIdle      int32 = iota
	laneGathering       // its pipeline is about to be sent
	laneSent            // it waits for Redis
)

// An op is some commands that share a pipeline with others. The fields after
// done are written before it is closed.
type op struct {
	add    func(redis.Pipeliner) // queues its commands; nil if it has calls
	calls  []*scriptCall         // answered before done is closed
	done   chan struct{}
	marker string // what push:term held, "" if it was gone
	err    error  // the marker could not be read; then nothing is known
}

func newLanes(r *Registry) *lanes {
	_, cluster := r.rdb.(*redis.ClusterClient)
	l := &lanes{r: r, cluster: cluster, began: time.Now(), ended: make(chan struct{})}
	for range r.cfg.Lanes {
		l.all = append(l.all, &lane{queue: make(chan *op, laneQueue)})
	}
	return l
}

// do runs the commands that add queues and returns the marker that was read
// before them, in the same pipeline. After an error the commands must not be
// looked at: they may still run.
func (l *lanes) do(ctx context.Context, add func(redis.Pipeliner)) (marker string, err error) {
	return l.queue(ctx, &op{add: add})
}

// call has calls answered and returns the marker as do does. What follows one
// another in calls is done in that order. After an error calls must not be looked
// at.
func (l *lanes) call(ctx context.Context, calls []*scriptCall) (marker string, err error) {
	return l.queue(ctx, &op{calls: calls})
}

func (l *lanes) queue(ctx context.Context, o *op) (marker string, err error) {
	if err := l.r.enter(); err != nil {
		return "", err
	}
	defer l.r.calls.Done()
	o.done = make(chan struct{})
	ln := l.pick()
	select {
	case ln.queue <- o:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	l.start(ln)
	select {
	case <-o.done:
		return o.marker, o.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// pick returns the lane for the next operation: one that gathers, so that they
// go together, else one whose answer is due at once, else an idle one, else that
// in which the fewest wait.
func (l *lanes) pick() *lane {
	now := int64(time.Since(l.began))
	best, least := l.all[0], -1
	for _, ln := range l.all {
		switch ln.busy.Load() {
		case laneGathering:
			return ln
		case laneIdle:
			if least != 0 {
				best, least = ln, 0
			}
		default:
			n := len(ln.queue) + 1
			if n < laneBatch && now-ln.sent.Load() < int64(laneShare) {
				return ln
			}
			if least < 0 || n < least {
				best, least = ln, n
			}
		}
	}
	return best
}

// start sees to it that somebody drains ln, until the lanes end.
func (l *lanes) start(ln *lane) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if !ln.running {
		ln.running = true
		l.r.running.Go(func() { l.drain(ln) }) // Close waits for those who called do before it waits for this
	}
}

// drain runs what comes into ln, pipeline after pipeline, until the lanes end
// and nothing waits.
func (l *lanes) drain(ln *lane) {
	var ops []*op
	for {
		ln.busy.Store(laneIdle)
		ops = ops[:0]
		select {
		case o := <-ln.queue:
			ops = append(ops, o)
		case <-l.ended:
			select {
			case o := <-ln.queue:
				ops = append(ops, o)
			default:
				return
			}
		}
		ln.busy.Store(laneGathering)
		runtime.Gosched() // whoever is ready may come along
		for more := true; more && len(ops) < laneBatch; {
			select {
			case o := <-ln.queue:
				ops = append(ops, o)
			default:
				more = false
			}
		}
		ln.sent.Store(int64(time.Since(l.began)))
		ln.busy.Store(laneSent)
		l.run(ops)
		clear(ops)
	}
}

func (l *lanes) run(ops []*op) {
	ctx, cancel := context.WithTimeout(context.Background(), l.r.cfg.Timeout)
	defer cancel()
	p := l.r.rdb.Pipeline()
	sent := scriptCalls{hash: l.r.script.hash, cluster: l.cluster}
	marker, err := l.r.underMarker(ctx, p, func() {
		var alone []*scriptCall // of ops that have one
		for _, o := range ops {
			switch {
			case o.add != nil:
				o.add(p)
			case len(o.calls) == 1 && !l.cluster:
				alone = append(alone, o.calls[0])
			default:
				for _, c := range o.calls {
					sent.send(p, c)
				}
			}
		}
		sent.sendJoined(p, alone)
		sent.readRoutes(p)
	})
	sent.answer()
	for _, o := range ops {
		o.marker, o.err = marker, err
		close(o.done)
	}
}

// underMarker sends what add queues in p behind a read of the marker, and returns
// that. Where Redis' clock was not heard lately it is asked for, too.
func (r *Registry) underMarker(ctx context.Context, p redis.Pipeliner, add func()) (marker string, err error) {
	get := p.Get(ctx, termKey)
	var clock *redis.TimeCmd
	if r.clock.stale() {
		clock = p.Time(ctx)
	}
	add()
	sent := r.cfg.Now()
	if err := exec(ctx, p); err != nil {
		return "", fmt.Errorf("read the term's marker: %w", err)
	}
	if clock != nil {
		if now, err := clock.Result(); err == nil {
			r.clock.heard(now, sent)
		}
	}
	marker, err = get.Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("read the term's marker: %w", err)
	}
	return marker, nil
}

// exec runs the commands of p, each of which has its own error then. Its own error
// is that of a connection which Redis turned away with an answer (too many clients,
// a wrong password): go-redis 9.23 leaves commands that were not sent for it as if
// each had been answered with nothing, so they must not be looked at.
func exec(ctx context.Context, p redis.Pipeliner) error {
	cmds, err := p.Exec(ctx)
	if err == nil {
		return nil
	}
	for _, cmd := range cmds {
		if cmd.Err() != nil {
			return nil
		}
	}
	return err
}
