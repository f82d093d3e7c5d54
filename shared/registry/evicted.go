package registry

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Evicted returns how many keys Redis has evicted for want of memory since it
// started, of a Cluster all primaries together; 0 from a server that does not
// tell. A number that grew means that logs, their ends and routes may be gone
// though the term goes on.
func (r *Registry) Evicted(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	cluster, sharded := r.rdb.(*redis.ClusterClient)
	if !sharded {
		return evictedBy(r.rdb.Info(ctx, "stats"))
	}
	var mu sync.Mutex
	var sum int64
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		n, err := evictedBy(c.Info(ctx, "stats"))
		mu.Lock()
		defer mu.Unlock()
		sum += n
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ask what redis evicted: %w", err)
	}
	return sum, nil
}

func evictedBy(info *redis.StringCmd) (int64, error) {
	text, err := infoField(info, "evicted_keys")
	if err != nil {
		return 0, fmt.Errorf("ask what redis evicted: %w", err)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, nil // it does not tell
	}
	return n, nil
}
