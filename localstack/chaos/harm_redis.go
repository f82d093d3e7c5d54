package chaos

import (
	"context"
	"time"
)

// flushRedis empties Redis twice. Nobody may have to reconnect for it.
func flushRedis(ctx context.Context, w *world) error {
	before := w.closes.String()
	for range 2 {
		w.say("Redis is flushed")
		if err := w.cluster.redis.do("FLUSHALL"); err != nil {
			return err
		}
		w.ledger.fault("FLUSHALL")()
		if err := w.rest(ctx, w.long(12*time.Second)); err != nil {
			return err
		}
	}
	return w.sameCloses(before)
}
