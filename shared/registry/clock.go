package registry

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// maxClockTrip is the longest round trip that still tells Redis' clock: half
// of it is how wrong the reading may be.
const maxClockTrip = 100 * time.Millisecond

// maxClockAge is how old a reading of Redis' clock may be before the next
// pipeline asks for it again.
const maxClockAge = 100 * time.Millisecond

// A clock keeps Redis' time by this process' monotonic clock.
type clock struct {
	here func() time.Time // this machine's clock

	mu    sync.Mutex // guards what follows
	redis time.Time  // what Redis' clock said, without monotonic part
	local time.Time  // at this moment here
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.local.IsZero() {
		return c.here()
	}
	return c.redis.Add(c.here().Sub(c.local))
}

// stale reports whether it is time to hear Redis' clock again.
func (c *clock) stale() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.local.IsZero() || c.here().Sub(c.local) > maxClockAge
}

// heard notes what Redis' clock said in a round trip that began at sent and
// ended just now. A slow round trip is no news unless it is the first.
func (c *clock) heard(redis, sent time.Time) {
	trip := c.here().Sub(sent)
	c.mu.Lock()
	defer c.mu.Unlock()
	if trip > maxClockTrip && !c.local.IsZero() {
		return
	}
	c.redis, c.local = redis.Round(0), sent.Add(trip/2)
}

// A dialCounter counts the connections that a client opens. A restarted Redis
// is always met through a new one.
type dialCounter struct{ met *atomic.Int64 }

func (d dialCounter) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		d.met.Add(1) // before anybody can use it
		return conn, err
	}
}

func (d dialCounter) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (d dialCounter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A primaryWatch counts in a Cluster the pipelines that a server took whose run id
// was not looked at when it last was found right. A replica that takes over is not
// always met through a new connection: it may have been the primary before, and
// the connections of that time are kept.
type primaryWatch struct {
	r    *Registry
	addr string
}

func (w primaryWatch) DialHook(next redis.DialHook) redis.DialHook { return next }

func (w primaryWatch) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (w primaryWatch) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if known := w.r.primaries.Load(); known == nil || !slices.Contains(*known, w.addr) {
			w.r.met.Add(1) // before anybody looks at the answers
		}
		return err
	}
}
