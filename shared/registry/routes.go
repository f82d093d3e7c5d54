package registry

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"pushcluster/shared/push"
)

//go:embed unroute.lua
var unrouteScript string

// A ChannelRoute is a route of some node to be written or removed.
type ChannelRoute struct {
	Channel      push.Channel
	Registration int64
}

// AddRoutes writes that node has connections of these channels, under these
// registrations, which replace any that the node had. Routes live for
// Config.Keep. After an error any part of them may be written.
func (r *Registry) AddRoutes(ctx context.Context, node push.NodeID, routes []ChannelRoute) error {
	return r.eachRoute(ctx, "add", routes, func(p redis.Pipeliner, c ChannelRoute) redis.Cmder {
		return r.addRoute(p, node, c)
	})
}

// RemoveRoutes removes the routes of node for these channels where they still
// are the registrations that are named; a newer registration stays. After an
// error any part of them may be removed.
func (r *Registry) RemoveRoutes(ctx context.Context, node push.NodeID, routes []ChannelRoute) error {
	return r.eachRoute(ctx, "remove", routes, func(p redis.Pipeliner, c ChannelRoute) redis.Cmder {
		return p.Eval(context.Background(), unrouteScript, []string{routesKey(c.Channel)}, string(node), c.Registration)
	})
}

//go:embed route.lua
var routeScript string

// addRoute queues the write of one route, which a later registration of the
// same node withstands.
func (r *Registry) addRoute(p redis.Pipeliner, node push.NodeID, c ChannelRoute) redis.Cmder {
	return p.Eval(context.Background(), routeScript, []string{routesKey(c.Channel)},
		string(node), c.Registration, r.cfg.Keep.Milliseconds())
}

// eachRoute queues a command for each route, a bounded number at once.
func (r *Registry) eachRoute(ctx context.Context, verb string, routes []ChannelRoute, add func(redis.Pipeliner, ChannelRoute) redis.Cmder) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(routesAtOnce)
	for first := 0; first < len(routes); first += routesPerOp {
		part := routes[first:min(first+routesPerOp, len(routes))]
		g.Go(func() error {
			cmds := make([]redis.Cmder, len(part))
			_, err := r.lanes.do(ctx, func(p redis.Pipeliner) {
				for i, c := range part {
					cmds[i] = add(p, c)
				}
			})
			if err != nil {
				return fmt.Errorf("%s routes: %w", verb, err)
			}
			for i, c := range part {
				if err := cmds[i].Err(); err != nil {
					return fmt.Errorf("%s route of %s: %w", verb, c.Channel, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}
