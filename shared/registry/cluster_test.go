package registry_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/freeaddr"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

// cluster starts a Redis Cluster of three primaries and returns their addresses.
func cluster(t *testing.T) []*registrytest.Server {
	t.Helper()
	return clusterWith(t, func() []string { return nil })
}

// clusterWith is cluster with what more adds to each server's command line.
func clusterWith(t *testing.T, more func() []string) []*registrytest.Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("a Cluster needs redis-server, which is not on PATH")
	}
	slots := []string{"0-5460", "5461-10922", "10923-16383"}
	var all []*registrytest.Server
	for i := range slots {
		s := registrytest.Redis(t, append(more(), "--cluster-enabled", "yes", "--cluster-node-timeout", "15000",
			"--cluster-port", freePort(t), "--cluster-require-full-coverage", "no")...)
		all = append(all, s)
		lo, hi, _ := strings.Cut(slots[i], "-")
		do(t, s, "CLUSTER", "ADDSLOTSRANGE", lo, hi)
		do(t, s, "CLUSTER", "SET-CONFIG-EPOCH", fmt.Sprint(i+1))
	}
	for _, s := range all[1:] {
		host, port, _ := net.SplitHostPort(s.Addr())
		bus := strings.Fields(configGet(t, s, "cluster-port"))
		do(t, all[0], "CLUSTER", "MEET", host, port, bus[len(bus)-1])
	}
	for _, s := range all {
		eventually(t, func() error {
			info, err := text(s, "CLUSTER", "INFO")
			if err != nil || !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3") ||
				!strings.Contains(info, "cluster_slots_assigned:16384") {
				return fmt.Errorf("%s: %q %v", s.Addr(), info, err)
			}
			return nil
		})
	}
	return all
}

func freePort(t *testing.T) string {
	addr, err := freeaddr.One()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	return port
}

func do(t *testing.T, s *registrytest.Server, args ...string) {
	t.Helper()
	if _, err := registrytest.Do(s.Addr(), args...); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
}

func configGet(t *testing.T, s *registrytest.Server, name string) string {
	t.Helper()
	v, err := text(s, "CONFIG", "GET", name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// text returns everything that one inline command answers, without framing.
func text(s *registrytest.Server, args ...string) (string, error) {
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "%s\r\nQUIT\r\n", strings.Join(args, " ")); err != nil {
		return "", err
	}
	var lines []string
	sc := bufio.NewScanner(conn)
	for sc.Scan() {
		if l := sc.Text(); l != "+OK" && l != "" && l[0] != '$' && l[0] != '*' {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines, "\n"), sc.Err()
}

// openCluster returns a registry of all servers.
func openCluster(t *testing.T, servers []*registrytest.Server) bench {
	t.Helper()
	terms := &registrytest.Terms{}
	var addrs []string
	for _, s := range servers {
		addrs = append(addrs, s.Addr())
	}
	reg, err := registry.Open("redis+cluster://"+strings.Join(addrs, ","), terms, registry.Config{Timeout: 15 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	return bench{reg, nil, terms}
}

// slotOf returns the slot of a channel, and which server has it.
func slotOf(t *testing.T, servers []*registrytest.Server, c push.Channel) (slot string, server int) {
	t.Helper()
	slot, err := text(servers[0], "CLUSTER", "KEYSLOT", "push:{"+string(c)+"}:routes")
	if err != nil {
		t.Fatal(err)
	}
	slot = strings.TrimPrefix(slot, ":")
	number, err := strconv.Atoi(slot)
	if err != nil {
		t.Fatal(err)
	}
	return slot, min(number/5461, 2)
}

// A slot is on its way from one server to another, and of a channel the log has
// arrived and the routes have not: nothing is appended there behind a read of the
// routes here.
func TestAppendWhileTheSlotMoves(t *testing.T) {
	servers := cluster(t)
	b := openCluster(t, servers)
	ctx := t.Context()
	const channel = push.Channel("#42")
	if err := b.AddRoutes(ctx, "n1", []registry.ChannelRoute{{Channel: channel, Registration: 7}}); err != nil {
		t.Fatal(err)
	}
	b.add(t, channel, "m1")
	slot, at := slotOf(t, servers, channel)
	from, to := servers[at], servers[(at+1)%3]
	id := func(s *registrytest.Server) string {
		id, err := text(s, "CLUSTER", "MYID")
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	do(t, to, "CLUSTER", "SETSLOT", slot, "IMPORTING", id(from))
	do(t, from, "CLUSTER", "SETSLOT", slot, "MIGRATING", id(to))
	host, port, _ := net.SplitHostPort(to.Addr())
	for _, key := range []string{"push:{#42}:log", "push:{#42}:seen"} {
		do(t, from, "MIGRATE", host, port, key, "0", "5000")
	}

	item := registry.Item{Channel: channel, Message: message("m2")}
	got, err := b.Append(ctx, []registry.Item{item})
	if err != nil || got.Items[0].Err == nil {
		t.Errorf("Append while log and routes are apart = %+v, %v, want it refused", got.Items, err)
	}
	do(t, from, "MIGRATE", host, port, "push:{#42}:routes", "0", "5000")
	for _, s := range []*registrytest.Server{to, from} {
		do(t, s, "CLUSTER", "SETSLOT", slot, "NODE", id(to))
	}
	item.Again, item.Asked = true, true
	it := b.append(t, item).Items[0]
	if it.Repeat || len(it.Routes) != 1 || it.Routes[0].Registration != 7 {
		t.Errorf("Append after the routes moved = %+v, want a new place and the route", it)
	}
}

func TestCluster(t *testing.T) {
	servers := cluster(t)
	b := openCluster(t, servers)
	ctx := t.Context()
	if err := b.Ready(ctx); err != nil {
		t.Errorf("Ready: %v", err)
	}
	first, err := b.Grant(ctx, registry.Lease{Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(first.RunID, ","); n != 2 {
		t.Errorf("the term has run id %q, want one of each of 3 primaries", first.RunID)
	}
	var items []registry.Item
	var routes []registry.ChannelRoute
	for i := range 60 {
		c := push.Channel(fmt.Sprintf("#%d", i))
		items = append(items, registry.Item{Channel: c, Message: message("m1"), Asked: true})
		routes = append(routes, registry.ChannelRoute{Channel: c, Registration: int64(i + 1)})
	}
	if err := b.AddRoutes(ctx, "n1", routes); err != nil {
		t.Fatal(err)
	}
	a := b.append(t, items...)
	for i, it := range a.Items {
		if len(it.Routes) != 1 || it.Routes[0].Registration != int64(i+1) {
			t.Errorf("channel %s has routes %v", items[i].Channel, it.Routes)
		}
		p := b.read(t, registry.LogQuery{Channel: items[i].Channel})
		if ids(p) != "m1" || p.Entries[0].Offset != it.Offset {
			t.Errorf("the log of %s = %q", items[i].Channel, ids(p))
		}
	}
	if live, err := b.Nodes(ctx, []push.NodeID{"n1"}); err != nil || len(live) != 1 {
		t.Errorf("Nodes = %v, %v", live, err)
	}
	if held, _, err := b.Renew(ctx, registry.Lease{Node: "n1"}); !held || err != nil {
		t.Errorf("Renew = %v, %v", held, err)
	}

	// One primary loses its memory: a new term for all.
	servers[1].Stop()
	servers[1].Start()
	eventually(t, func() error {
		_, now, err := b.Renew(ctx, registry.Lease{Node: "n1"})
		if err != nil {
			return err
		}
		if now.Number == first.Number {
			return errors.New("the restart is not noticed")
		}
		return nil
	})
	eventually(t, func() error {
		again, err := b.Append(ctx, items)
		if err != nil {
			return err
		}
		for i, it := range again.Items {
			if it.Err != nil {
				return it.Err
			}
			if it.Offset <= a.Items[i].Offset {
				return fmt.Errorf("%s went back from %d to %d", items[i].Channel, a.Items[i].Offset, it.Offset)
			}
		}
		return nil
	})
}
