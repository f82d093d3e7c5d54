//go:build linux

package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"pushcluster/bench/compare"
	"pushcluster/bench/measure"
	"pushcluster/bench/swarm"
	"pushcluster/bench/target"
)

// The contenders that several suites have.
var (
	gepoll   = target.Floor("gepoll", "the floor: gorilla's framing over raw descriptors and epoll")
	path     = target.Path("path", "the floor of the path: a relay that checks nothing, Redis, and a gepoll that answers connect")
	raw      = target.Floor("raw", "a table of descriptors and write(2), without gorilla")
	tuned2   = target.Floor("tuned2", "gorilla with a reading goroutine each, direct writes and a handshake read by hand")
	textbook = target.Floor("textbook", "gorilla's chat example: two goroutines a connection")
	node     = target.Cluster("node", "this project, without the durable write", target.ClusterConfig{})
	routines = target.Cluster("goroutines", "this project with a goroutine for each connection, as where the node has TLS", target.ClusterConfig{Goroutines: true})
	sqlite   = target.Cluster("node+sqlite", "this project as it is, with its inbox in SQLite", target.ClusterConfig{Durable: true})
)

// socketRows are those that who reads the sockets has a part in.
var socketRows = []string{"connect", "memory", "alone", "broadcast"}

// floorRows are enough to tell the floors from one another.
var floorRows = []string{"connect", "memory", "batched", "broadcast"}

// pathRows are those in which a message or a client does more with our node than
// with the other floors.
var pathRows = []string{"connect", "memory", "unicast", "batched", "latency", "half"}

// durableRows are those that the durable write has a part in.
var durableRows = []string{"connect", "unicast", "batched", "fanout", "latency"}

// plansOf returns what a suite measures.
func plansOf(o options, root string, out io.Writer) ([]compare.Plan, error) {
	if o.n < 0 || o.n > swarm.MaxCount {
		return nil, fmt.Errorf("-n is %d, want 1 to %d", o.n, swarm.MaxCount)
	}
	var plans []compare.Plan
	switch o.suite {
	case "node":
		plans = nodePlans(o)
	case "scale":
		plans = scalePlans(o)
	case "channels":
		plans = channelPlans(o)
	case "peers":
		plans = peerPlans(o, root)
	case "cluster":
		plans = clusterPlans(o)
	default:
		return nil, fmt.Errorf("there is no suite %q: use node, scale, channels, peers or cluster", o.suite)
	}
	for i := range plans {
		p := &plans[i]
		p.Out, p.Only = out, cmpList(list(o.only), p.Only)
		if o.rounds > 0 {
			p.Rounds = o.rounds
		}
		if err := pick(p, list(o.targets)); err != nil {
			return nil, err
		}
		for _, id := range p.Only {
			if id != measure.Recover().ID && !slices.ContainsFunc(measure.Rows(), func(r measure.Row) bool { return r.ID == id }) {
				return nil, fmt.Errorf("there is no row %q", id)
			}
		}
	}
	return plans, nil
}

// cmpList returns asked, or where nothing was asked the suite's own.
func cmpList(asked, own []string) []string {
	if asked != nil {
		return asked
	}
	return own
}

// pick leaves only the targets that were asked for, all if none were.
func pick(p *compare.Plan, names []string) error {
	if names == nil {
		return nil
	}
	p.Contenders = slices.DeleteFunc(p.Contenders, func(c compare.Contender) bool { return !slices.Contains(names, c.Kind.Name) })
	if len(p.Contenders) == 0 {
		return fmt.Errorf("suite %s has none of the targets %q", p.Suite, names)
	}
	return nil
}

func nodePlans(o options) []compare.Plan {
	p := compare.Plan{Suite: "node", Rounds: 3, Measure: o.config(10_000), Contenders: []compare.Contender{
		{Kind: gepoll}, {Kind: path, Rows: pathRows}, {Kind: raw, Rows: floorRows}, {Kind: tuned2, Rows: floorRows}, {Kind: textbook},
		{Kind: node}, {Kind: routines, Rows: socketRows}, {Kind: sqlite, Rows: durableRows},
	}}
	if o.store != "" {
		kind := target.Cluster("node+store", "this project as it is, with its inbox in the store that was named",
			target.ClusterConfig{Durable: true, StoreURL: o.store})
		p.Contenders = append(p.Contenders, compare.Contender{Kind: kind, Rows: durableRows})
	}
	return []compare.Plan{p}
}

func scalePlans(o options) []compare.Plan {
	return []compare.Plan{{
		Suite: "scale", Rounds: 1, Measure: o.config(0), Counts: []int{1000, 5000, 10_000, swarm.MaxCount},
		Only:       []string{"connect", "memory", "batched", "fanout"},
		Contenders: []compare.Contender{{Kind: gepoll}, {Kind: textbook}, {Kind: node}},
	}}
}

// channelPlans shows whether cost grows with the number of channels: the same
// connections, each in more and more channels of its own.
func channelPlans(o options) []compare.Plan {
	p := compare.Plan{Suite: "channels", Of: "channels a connection", Rounds: 1, Measure: o.config(2000), Only: []string{"connect", "memory", "batched"}}
	for _, channels := range []int{0, 5, 25, 50} {
		kind := node
		kind.Name = fmt.Sprintf("%d channels", 2+channels) // the personal one and all
		p.Contenders = append(p.Contenders, compare.Contender{Kind: kind, Channels: channels, Of: 2 + channels})
	}
	return []compare.Plan{p}
}

func peerPlans(o options, root string) []compare.Plan {
	peers := filepath.Join(root, "bench", "peers")
	p := compare.Plan{Suite: "peers", Rounds: 1, Measure: o.config(5000)}
	for _, kind := range []target.Kind{gepoll, node, target.Centrifuge(peers), target.SocketIO(peers), target.NginxNchan()} {
		p.Contenders = append(p.Contenders, compare.Contender{Kind: kind})
	}
	return []compare.Plan{p}
}

// clusterPlans goes from POST /v1/messages through every service, with more and
// more nodes.
func clusterPlans(o options) []compare.Plan {
	p := compare.Plan{Suite: "cluster", Of: "nodes", Rounds: 1, Measure: o.config(2000),
		Only: []string{"connect", "unicast", "batched", "latency", "fanout", "broadcast", "recover"}}
	p.Measure.Rate = 300
	for nodes := 1; nodes <= 5; nodes++ {
		name := fmt.Sprintf("%d nodes", nodes)
		if nodes == 1 {
			name = "1 node"
		}
		kind := target.Cluster(name, "this project, from webhook to browser, on "+name,
			target.ClusterConfig{Nodes: nodes, Durable: true, Collect: true})
		p.Contenders = append(p.Contenders, compare.Contender{Kind: kind, Of: nodes})
	}
	return []compare.Plan{p}
}
