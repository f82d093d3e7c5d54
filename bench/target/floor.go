//go:build linux

package target

import (
	"context"
	"path/filepath"

	"pushcluster/bench/post"
	"pushcluster/bench/proc"
	"pushcluster/bench/swarm"
	"pushcluster/shared/freeaddr"
)

// Floor is one mode of bench/floors.
func Floor(mode, about string) Kind {
	return Kind{Name: mode, About: about, start: func(ctx context.Context, t *Target, place Place, opts Options) error {
		addrs, err := freeaddr.Take(2)
		if err != nil {
			return err
		}
		args := []string{"-mode", mode, "-addr", addrs[0], "-pub", addrs[1], "-stream", ""}
		if opts.History {
			args = append(args, "-hist")
		}
		err = t.run(ctx, place, proc.Spec{Name: "node", Path: filepath.Join(place.Bin, "floors"), Args: args, Ready: answers200("http://" + addrs[1] + "/dropped")})
		if err != nil {
			return err
		}
		t.Addrs, t.Dialect, t.Recovers = addrs[:1], swarm.Plain(), opts.History
		t.Profiles["node"] = "http://" + addrs[1]
		t.publishBinary(addrs[1])
		t.free = []string{"http://" + addrs[1] + "/gc", "http://" + addrs[1] + "/free"}
		return nil
	}}
}

// Path is the floor of the path to a node: a relay that checks nothing, Redis, and
// a gepoll that answers what our clients say when they connect.
func Path(name, about string) Kind {
	return Kind{Name: name, About: about, start: func(ctx context.Context, t *Target, place Place, _ Options) error {
		addrs, err := freeaddr.Take(4)
		if err != nil {
			return err
		}
		floors := filepath.Join(place.Bin, "floors")
		err = t.run(ctx, place, proc.Spec{Name: "node", Path: floors, Ready: answers200("http://" + addrs[1] + "/dropped"),
			Args: []string{"-mode", "gepoll", "-greet", "-addr", addrs[0], "-pub", addrs[1], "-stream", addrs[2]}})
		if err != nil {
			return err
		}
		redis, redisAddr, err := startRedis(ctx, place)
		if err != nil {
			return err
		}
		t.Processes = append(t.Processes, redis)
		err = t.run(ctx, place, proc.Spec{Name: "relay", Path: floors, Ready: answers200("http://" + addrs[3] + "/"),
			Args: []string{"-mode", "relay", "-pub", addrs[3], "-redis", redisAddr, "-stream", addrs[2]}})
		if err != nil {
			return err
		}
		t.Addrs, t.Dialect = addrs[:1], swarm.Centrifugo(true)
		t.Profiles["node"] = "http://" + addrs[1]
		t.publishBinary(addrs[3])
		t.free = []string{"http://" + addrs[1] + "/gc", "http://" + addrs[1] + "/free"}
		return nil
	}}
}

// publishBinary publishes through the floors' API at addr.
func (t *Target) publishBinary(addr string) {
	client := post.New(addr, Connections)
	t.closers = append(t.closers, client.Close)
	t.Publisher = &binaryAPI{addr: addr, client: client}
}
