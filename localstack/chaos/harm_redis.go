package chaos

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// flushRedis empties Redis once, and then again and again, before everybody has
// registered anew. Nobody may have to reconnect for it.
func flushRedis(ctx context.Context, w *world) error {
	before := w.closes.String()
	rng := w.random(4)
	for i := range 16 {
		w.say("Redis is flushed")
		if err := w.cluster.redis.do("FLUSHALL"); err != nil {
			return err
		}
		w.ledger.fault("FLUSHALL")()
		pause := 9 * time.Second
		if i > 0 && i < 15 {
			pause = 100*time.Millisecond + time.Duration(rng.Int64N(int64(1200*time.Millisecond)))
		}
		if err := w.rest(ctx, w.long(pause)); err != nil {
			return err
		}
	}
	return w.sameCloses(before)
}

// restartRedis restarts Redis with nothing, at once and then after 30 s.
func restartRedis(ctx context.Context, w *world) error {
	for _, away := range []time.Duration{100 * time.Millisecond, 30 * time.Second} {
		w.say("Redis is away for %v", away)
		end := w.ledger.fault(fmt.Sprintf("absence of redis for %v", away))
		w.cluster.redis.kill()
		if err := w.rest(ctx, away); err != nil {
			return err
		}
		if err := w.cluster.redis.start(ctx); err != nil {
			return err
		}
		end()
		w.say("Redis is back, empty")
		if err := w.rest(ctx, 8*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// failOver puts a Redis in the place of the present one that lacks its last
// 5 s, and whose clock is off.
func failOver(off time.Duration) func(ctx context.Context, w *world) error {
	return func(ctx context.Context, w *world) error {
		r := w.cluster.redis
		if off != 0 {
			shim, err := buildShim(ctx, w.cluster.dir)
			if err != nil {
				return err
			}
			r.env = []string{"LD_PRELOAD=" + shim, fmt.Sprintf("CHAOS_CLOCK_MS=%d", off.Milliseconds())}
		}
		if err := r.snapshot(); err != nil {
			return err
		}
		w.say("Redis is copied")
		if err := w.rest(ctx, 5*time.Second); err != nil {
			return err
		}
		w.say("the copy takes over, its clock off by %v", off)
		end := w.ledger.fault("failover of redis")
		r.kill()
		if err := w.rest(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		if err := r.start(ctx); err != nil {
			return err
		}
		end()
		if off != 0 {
			if err := w.clockIsOff(off); err != nil {
				return err
			}
		}
		return w.rest(ctx, 12*time.Second)
	}
}

// fillRedis lets Redis run out of memory: first it refuses writes, then it
// evicts what has an expiry, logs and leases and routes among it.
func fillRedis(ctx context.Context, w *world) error {
	r := w.cluster.redis
	for _, step := range []struct {
		what, policy string
		share        float64 // of the memory used that remains
	}{
		{"refuses writes", "noeviction", 0.9},
		{"evicts logs", "volatile-random", 0.7},
	} {
		used, err := r.memory()
		if err != nil {
			return err
		}
		memory := fmt.Sprint(int(float64(used) * step.share))
		w.say("Redis %s: %s bytes of %d remain", step.what, memory, used)
		end := w.ledger.fault("redis " + step.what)
		for _, set := range [][2]string{{"maxmemory-policy", step.policy}, {"maxmemory", memory}} {
			if err := r.do("CONFIG", "SET", set[0], set[1]); err != nil {
				return err
			}
		}
		if err := w.rest(ctx, 10*time.Second); err != nil {
			return err
		}
		if err := r.do("CONFIG", "SET", "maxmemory", "0"); err != nil {
			return err
		}
		end()
		if err := w.rest(ctx, 5*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// cutRedis cuts one node from Redis alone for two minutes, while the wall clocks
// of another node and of Dispatch jump.
func cutRedis(ctx context.Context, w *world) error {
	before := w.closes.String()
	cut, jumps := w.cluster.nodes[1], w.cluster.nodes[0]
	end := w.ledger.fault(cut.name + " cut from redis")
	w.say("%s is cut from Redis", cut.name)
	cut.redis.sever()
	for _, d := range []time.Duration{5 * time.Minute, -5 * time.Minute, 0} {
		w.say("the clocks of %s and dispatch are off by %v", jumps.name, d)
		if err := w.cluster.moveClock(jumps.process, d); err != nil {
			return err
		}
		if err := w.cluster.moveClock(w.cluster.dispatch, d); err != nil {
			return err
		}
		if err := w.rest(ctx, 40*time.Second); err != nil {
			return err
		}
	}
	cut.redis.mend()
	end()
	w.say("%s reaches Redis again", cut.name)
	if err := w.rest(ctx, 10*time.Second); err != nil {
		return err
	}
	return w.sameCloses(before)
}

// clockIsOff returns an error unless Redis' clock is off by about that much.
func (w *world) clockIsOff(by time.Duration) error {
	now, err := w.cluster.redis.clock()
	if err != nil {
		return err
	}
	if got := time.Until(now); got-by > 2*time.Second || by-got > 2*time.Second {
		return fmt.Errorf("the clock of %s is off by %v, not by %v", filepath.Base(w.cluster.dir), got, by)
	}
	return nil
}
