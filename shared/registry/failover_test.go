package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

// replicaOf adds to a Cluster a replica of one of its primaries.
func replicaOf(t *testing.T, primary *registrytest.Server) *registrytest.Server {
	t.Helper()
	s := registrytest.Redis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "15000", "--cluster-port", freePort(t),
		"--cluster-require-full-coverage", "no")
	do(t, primary, "CONFIG", "SET", "repl-diskless-sync-delay", "0") // else it waits for others
	host, port, _ := net.SplitHostPort(primary.Addr())
	bus := strings.Fields(configGet(t, primary, "cluster-port"))
	do(t, s, "CLUSTER", "MEET", host, port, bus[len(bus)-1])
	id, err := text(primary, "CLUSTER", "MYID")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { // it must have heard of it first
		_, err := registrytest.Do(s.Addr(), "CLUSTER", "REPLICATE", id)
		return err
	})
	eventually(t, func() error { return has(s, "master_link_status:up") })
	return s
}

// withReplica returns the three primaries of a Cluster, and fourth a replica of the
// one at which channel is, of which all have heard.
func withReplica(t *testing.T, channel push.Channel) (servers []*registrytest.Server, at int) {
	t.Helper()
	servers = cluster(t)
	_, at = slotOf(t, servers, channel)
	replica := replicaOf(t, servers[at])
	servers = append(servers, replica)
	eventually(t, func() error { return knownTo(servers, replica, "slave") })
	return servers, at
}

// has returns nil if what a server tells of its replication has the line want.
func has(s *registrytest.Server, want string) error {
	info, err := text(s, "INFO", "replication")
	if err == nil && !strings.Contains(info, want) {
		err = fmt.Errorf("%s is not %s: %q", s.Addr(), want, info)
	}
	return err
}

// knownTo returns nil if every server of the Cluster knows s with that flag:
// master, or slave for a replica.
func knownTo(servers []*registrytest.Server, s *registrytest.Server, flag string) error {
	for _, other := range servers {
		nodes, err := text(other, "CLUSTER", "NODES")
		if err != nil {
			return err
		}
		known := "nothing"
		for line := range strings.Lines(nodes) {
			if f := strings.Fields(line); len(f) > 2 && strings.HasPrefix(f[1], s.Addr()+"@") {
				known = f[2]
			}
		}
		if !strings.Contains(known, flag) {
			return fmt.Errorf("%s takes %s for %s", other.Addr(), s.Addr(), known)
		}
	}
	return nil
}

// takeOver makes replica the primary, and waits until all have heard of it.
func takeOver(t *testing.T, servers []*registrytest.Server, replica, primary *registrytest.Server) {
	t.Helper()
	do(t, replica, "CLUSTER", "FAILOVER", "TAKEOVER")
	eventually(t, func() error { return knownTo(servers, replica, "master") })
	eventually(t, func() error { return knownTo(servers, primary, "slave") })
}

// place appends a message of which the inbox knows nothing, as soon as it is let:
// who has just changed places may refuse.
func place(t *testing.T, reg *registry.Registry, c push.Channel, id string) registry.Appended {
	t.Helper()
	var a registry.Appended
	eventually(t, func() (err error) {
		if a, err = reg.Append(t.Context(), []registry.Item{{Channel: c, Message: message(id), Asked: true}}); err == nil {
			err = a.Items[0].Err
		}
		return err
	})
	return a
}

// A primary of a Cluster that became a replica takes over again, and lacks the last
// message. The client's connections to it are those of its first time: no new one
// tells that there is another Redis.
func TestFormerPrimaryTakesOver(t *testing.T) {
	const channel = push.Channel("#42")
	servers, at := withReplica(t, channel)
	one, other := servers[at], servers[3]
	b := openCluster(t, servers)
	first := place(t, b.Registry, channel, "m1").Term

	takeOver(t, servers, other, one)
	eventually(t, func() error { return has(one, "master_link_status:up") })
	second := place(t, b.Registry, channel, "m2").Term
	if second.Number <= first.Number {
		t.Errorf("after the first failover the term is %+v, as before", second)
	}

	do(t, other, "ACL", "SETUSER", "default", "-psync", "-sync")
	do(t, other, "CLIENT", "KILL", "TYPE", "replica")
	eventually(t, func() error { return has(one, "master_link_status:down") })
	place(t, b.Registry, channel, "m3") // and it is lost
	takeOver(t, servers, one, other)
	if next := place(t, b.Registry, channel, "m4").Term; next.Number <= second.Number {
		t.Errorf("at the former primary the term is %+v, as before", next)
	}
}

// A replica takes over in a Cluster, and the servers that the client asks for the
// slots have not heard of it.
func TestTakeoverThatNotAllHaveHeardOf(t *testing.T) {
	const channel = push.Channel("#42")
	all, at := withReplica(t, channel)
	servers, one, other := all[:3], all[at], all[3]
	var news atomic.Int64 // how often the slots were asked for since the takeover
	var over atomic.Bool
	client := redis.NewClusterClient(&redis.ClusterOptions{ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
		heard := over.Load() && news.Add(1) > 4
		var slots []redis.ClusterSlot
		for i, s := range servers {
			if i == at && heard {
				s = other
			}
			bounds := [...]int{0, 5461, 10923, 16384}
			slots = append(slots, redis.ClusterSlot{Start: bounds[i], End: bounds[i+1] - 1, Nodes: []redis.ClusterNode{{Addr: s.Addr()}}})
		}
		return slots, nil
	}})
	reg := registry.New(client, &registrytest.Terms{}, registry.Config{Timeout: 15 * time.Second})
	t.Cleanup(func() { _ = reg.Close() })
	first := place(t, reg, channel, "m1").Term
	do(t, other, "SCRIPT", "LOAD", reg.AppendScript()) // else the slots are asked for again for it
	takeOver(t, all, other, one)
	over.Store(true)
	if next := place(t, reg, channel, "m2").Term; next.Number <= first.Number {
		t.Errorf("after the failover the term is %+v, as before", next)
	}
}

// A primary is demoted behind one address, which leads to the new one from then on,
// and keeps its connections.
func TestDemotedBehindOneAddress(t *testing.T) {
	one, other := registrytest.Redis(t), registrytest.Redis(t)
	to, addr := relay(t, one.Addr())
	reg, err := registry.Open("redis://"+addr, &registrytest.Terms{}, registry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	first := place(t, reg, "#42", "m1").Term
	promote(t, other, one)
	follow(t, one, other)
	eventually(t, func() error { return has(one, "master_link_status:up") })
	to.Store(other.Addr())
	// One item is refused as its command, several are as what their script says of each.
	if next := place(t, reg, "#42", "m2").Term; next.Number <= first.Number {
		t.Errorf("after the failover the term is %+v, as before", next)
	}
	follow(t, other, one)
	eventually(t, func() error { return has(other, "role:slave") })
	do(t, one, "REPLICAOF", "NO", "ONE")
	to.Store(one.Addr())
	eventually(t, func() error {
		a, err := reg.Append(t.Context(), []registry.Item{
			{Channel: "#42", Message: message("m3"), Asked: true}, {Channel: "#42", Message: message("m4"), Asked: true}})
		if err != nil {
			return err
		}
		return errors.Join(a.Items[0].Err, a.Items[1].Err)
	})
}

// follow makes a server the replica of another.
func follow(t *testing.T, replica, primary *registrytest.Server) {
	t.Helper()
	do(t, primary, "CONFIG", "SET", "repl-diskless-sync-delay", "0") // else it waits for others
	host, port, _ := net.SplitHostPort(primary.Addr())
	do(t, replica, "REPLICAOF", host, port)
}

// promote makes other a replica of one, and then, when it has all of it, a primary,
// of which one knows nothing.
func promote(t *testing.T, other, one *registrytest.Server) {
	t.Helper()
	follow(t, other, one)
	eventually(t, func() error { return has(other, "master_link_status:up") })
	do(t, other, "REPLICAOF", "NO", "ONE")
}

// relay returns an address at which each new connection is led to where to says
// then. What is open stays until the test ends.
func relay(t *testing.T, first string) (to *atomic.Value, addr string) {
	t.Helper()
	to = &atomic.Value{}
	to.Store(first)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex // guards open
	var open []net.Conn
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("tcp", to.Load().(string))
			if err != nil {
				_ = c.Close()
				continue
			}
			mu.Lock()
			open = append(open, c, d)
			mu.Unlock()
			for _, way := range [][2]net.Conn{{c, d}, {d, c}} {
				running.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return to, l.Addr().String()
}
