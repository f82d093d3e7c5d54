package registry

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"pushcluster/shared/push"
)

//go:embed route.lua
var routeScript string

//go:embed unroute.lua
var unrouteScript string

// A ChannelRoute is a route of some node to be written or removed.
type ChannelRoute struct {
	Channel      push.Channel
	Registration int64
}

// AddRoutes writes that node has connections of these channels, under these
// registrations, which replace any earlier ones of the node. Routes live for
// Config.Keep. After an error any part of them may be written.
func (r *Registry) AddRoutes(ctx context.Context, node push.NodeID, routes []ChannelRoute) error {
	return r.eachRoute(ctx, "add", routes, func(p redis.Pipeliner, some []ChannelRoute) redis.Cmder {
		return r.addRoutes(p, node, some)
	})
}

// RemoveRoutes removes the routes of node for these channels where they still
// are the registrations that are named; a newer registration stays. After an
// error any part of them may be removed.
func (r *Registry) RemoveRoutes(ctx context.Context, node push.NodeID, routes []ChannelRoute) error {
	return r.eachRoute(ctx, "remove", routes, func(p redis.Pipeliner, some []ChannelRoute) redis.Cmder {
		keys, args := routeArgs(some, string(node))
		return p.Eval(context.Background(), unrouteScript, keys, args...)
	})
}

// addRoutes queues the write of routes that one script may touch.
func (r *Registry) addRoutes(p redis.Pipeliner, node push.NodeID, some []ChannelRoute) redis.Cmder {
	keys, args := routeArgs(some, string(node), r.cfg.Keep.Milliseconds())
	return p.Eval(context.Background(), routeScript, keys, args...)
}

// routeArgs returns the keys of routes, and args with the registrations behind.
func routeArgs(some []ChannelRoute, args ...any) ([]string, []any) {
	keys := make([]string, len(some))
	for i, c := range some {
		keys[i] = routesKey(c.Channel)
		args = append(args, c.Registration)
	}
	return keys, args
}

// routesPerScript bounds how many routes one call of a script touches: more cost
// hardly less each, and Redis does nothing else meanwhile.
const routesPerScript = 32

// eachRoute queues a command for each few routes that one script may touch (in a
// Cluster that is one), a bounded number at once.
func (r *Registry) eachRoute(ctx context.Context, verb string, routes []ChannelRoute, add func(redis.Pipeliner, []ChannelRoute) redis.Cmder) error {
	size := routesPerScript
	if _, cluster := r.rdb.(*redis.ClusterClient); cluster {
		size = 1
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(routesAtOnce)
	for first := 0; first < len(routes); first += routesPerOp {
		part := routes[first:min(first+routesPerOp, len(routes))]
		g.Go(func() error {
			var cmds []redis.Cmder
			_, err := r.lanes.do(ctx, func(p redis.Pipeliner) {
				for from := 0; from < len(part); from += size {
					cmds = append(cmds, add(p, part[from:min(from+size, len(part))]))
				}
			})
			if err != nil {
				return fmt.Errorf("%s routes: %w", verb, err)
			}
			for i, cmd := range cmds {
				if err := cmd.Err(); err != nil {
					return fmt.Errorf("%s route of %s: %w", verb, part[i*size].Channel, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// registering runs read, which sends what first queues and then reads, so that
// the node's route is written in the same round trip before anything is read.
//
// A route that nobody wrote before, which is what almost all are, costs two plain
// commands. Where one of this node stands there it may be a newer one, which only
// the script tells; then the read is done again, for the one that stood there may
// have been removed before the new one was written.
func (r *Registry) registering(node push.NodeID, c ChannelRoute, read func(first func(redis.Pipeliner)) error) error {
	ctx := context.Background() // of commands that are only queued
	var set *redis.BoolCmd
	var expiry *redis.BoolCmd
	err := read(func(p redis.Pipeliner) {
		key := routesKey(c.Channel)
		set = p.HSetNX(ctx, key, string(node), c.Registration)
		expiry = p.PExpire(ctx, key, r.cfg.Keep)
	})
	if err != nil {
		return err
	}
	if err := expiry.Err(); err != nil {
		return fmt.Errorf("keep route of %s: %w", c.Channel, err)
	}
	first, err := set.Result()
	if err == nil && !first {
		var cmd redis.Cmder
		if err = read(func(p redis.Pipeliner) { cmd = r.addRoutes(p, node, []ChannelRoute{c}) }); err != nil {
			return err
		}
		err = cmd.Err()
	}
	if err != nil {
		return fmt.Errorf("add route of %s: %w", c.Channel, err)
	}
	return nil
}
