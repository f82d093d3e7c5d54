package registry_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

// documented returns what docs/operations.md has between two texts, with a password
// of the test's, in words.
func documented(t *testing.T, from, to string) []string {
	t.Helper()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), from)
	rules, _, ends := strings.Cut(rest, to)
	if !ok || !ends {
		t.Fatalf("docs/operations.md has nothing between %q and %q", from, to)
	}
	return strings.Fields(strings.NewReplacer("\\\n", " ", "'", "", "PASSWORD", "sesame").Replace(rules))
}

// leastRules returns the rules that docs/operations.md gives a user in Redis.
func leastRules(t *testing.T) []string {
	t.Helper()
	return documented(t, "\nredis-cli ACL SETUSER push ", "\n```")
}

// doEverything makes every call of the registry and of the limiter that reaches
// Redis, on the way past everything that the scripts may do, and returns the first
// error.
func doEverything(t *testing.T, s *registrytest.Server, addr string) (first error) {
	t.Helper()
	ctx := t.Context()
	reg, err := registry.Open(addr, &registrytest.Terms{}, registry.Config{Timeout: time.Minute, MaxEntries: 4, Young: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	limiter, err := registry.OpenLimiter(addr, registry.LimiterConfig{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer limiter.Close()

	const node, channel = push.NodeID("10.0.0.1:8811~n"), push.Channel("#42")
	lease := registry.Lease{Node: node}
	note := func(what string, err error) {
		if err != nil && first == nil {
			first = err
			t.Log(what)
		}
	}
	fill := func() {
		for _, m := range strings.Split("abcdefgh", "") {
			a, err := reg.Append(ctx, []registry.Item{{Channel: channel, Message: message(m), Asked: true}})
			if err == nil {
				err = a.Items[0].Err
			}
			note("append", err)
		}
	}
	note("ready", reg.Ready(ctx))
	_, err = reg.Evicted(ctx)
	note("evicted", err)
	_, err = reg.Grant(ctx, lease)
	note("grant", err)
	fill()
	do(t, s, "FLUSHALL") // the next term's floor is ahead of the clock
	_, _, err = reg.Renew(ctx, lease)
	note("renew without a lease", err)
	_, err = reg.Grant(ctx, lease)
	note("grant again", err)
	_, _, err = reg.Renew(ctx, lease)
	note("renew", err)
	for registration := range int64(2) { // where none stood, and where one did
		_, err = reg.RegisterAndRead(ctx, node, registration+1, registry.LogQuery{Channel: channel})
		note("register", err)
	}
	_, err = reg.RegisterAndLast(ctx, node, 3, channel)
	note("register and ask for the last", err)
	fill()
	do(t, s, "DEL", "push:{#42}:log", "push:{#42}:seen") // as if evicted
	fill()
	_, err = reg.ReadLog(ctx, registry.LogQuery{Channel: channel})
	note("read", err)
	_, err = reg.LastInLog(ctx, channel)
	note("last", err)
	route := []registry.ChannelRoute{{Channel: channel, Registration: 3}}
	note("add routes", reg.AddRoutes(ctx, node, route))
	note("remove routes", reg.RemoveRoutes(ctx, node, route))
	_, err = reg.Nodes(ctx, []push.NodeID{node})
	note("nodes", err)
	_, err = reg.Held(ctx)
	note("held", err)
	_, err = limiter.Take(ctx, "a", []registry.Rate{{Count: 1, Per: time.Second, Burst: 1}})
	note("limit", err)
	note("release", reg.Release(ctx, node))
	return first
}

// The user that the documentation makes may do all that is done, and without any of
// its commands something is refused.
func TestLeastUser(t *testing.T) {
	s := registrytest.Redis(t)
	if s.Mini() != nil {
		t.Skip("skipped: users are redis-server's, which is not installed")
	}
	addr := "redis://push:sesame@" + s.Addr()
	rules := leastRules(t)
	// refused returns what was refused in everything as that user.
	refused := func(rules []string) (string, error) {
		do(t, s, "ACL", "DELUSER", "push")
		do(t, s, append([]string{"ACL", "SETUSER", "push"}, rules...)...)
		do(t, s, "ACL", "LOG", "RESET")
		do(t, s, "FLUSHALL")
		do(t, s, "SCRIPT", "FLUSH")
		err := doEverything(t, s, addr)
		log, logErr := text(s, "ACL", "LOG")
		if logErr != nil {
			t.Fatal(logErr)
		}
		return log, err
	}
	if log, err := refused(rules); err != nil || strings.Contains(log, "reason") {
		t.Fatalf("with %v: %v; refused was %q", rules, err, log)
	}
	for i, rule := range rules {
		command, ok := strings.CutPrefix(rule, "+")
		if !ok {
			continue
		}
		t.Run(command, func(t *testing.T) {
			log, err := refused(slices.Concat(rules[:i], rules[i+1:]))
			if !slices.Contains(strings.Split(log, "\n"), command) {
				t.Errorf("nothing is refused without %s", rule)
			}
			if err == nil && command != "config|get" {
				t.Errorf("everything succeeds without %s", rule)
			}
		})
	}
}

// In a Cluster the user needs what the documentation names besides, here while a
// slot moves.
func TestLeastUserInCluster(t *testing.T) {
	servers := cluster(t)
	const channel = push.Channel("#42")
	slot, at := slotOf(t, servers, channel)
	from, to := servers[at], servers[(at+1)%3]
	for s, other := range map[*registrytest.Server]*registrytest.Server{to: from, from: to} {
		id, err := text(other, "CLUSTER", "MYID")
		if err != nil {
			t.Fatal(err)
		}
		do(t, s, "CLUSTER", "SETSLOT", slot, map[bool]string{true: "IMPORTING", false: "MIGRATING"}[s == to], id)
	}
	// refused returns what was refused to a user with those rules.
	refused := func(rules []string) (log string, err error) {
		t.Helper()
		var addrs []string
		for _, s := range servers {
			do(t, s, "ACL", "DELUSER", "push")
			do(t, s, append([]string{"ACL", "SETUSER", "push"}, rules...)...)
			do(t, s, "ACL", "LOG", "RESET")
			addrs = append(addrs, s.Addr())
		}
		reg, err := registry.Open("redis+cluster://push:sesame@"+strings.Join(addrs, ","), &registrytest.Terms{}, registry.Config{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer reg.Close()
		var items []registry.Item
		for _, c := range []push.Channel{"#1", "#2", "#3", "#4", "#5"} {
			items = append(items, registry.Item{Channel: c, Message: message("m"), Asked: true})
		}
		got, err := reg.Append(t.Context(), items)
		if err == nil {
			for _, it := range got.Items {
				err = errors.Join(err, it.Err)
			}
		}
		err = errors.Join(err, reg.Ready(t.Context()))
		_, readErr := reg.RegisterAndRead(t.Context(), "10.0.0.1:8811~n", 1, registry.LogQuery{Channel: channel})
		err = errors.Join(err, readErr)
		for _, s := range servers {
			l, logErr := text(s, "ACL", "LOG")
			if logErr != nil {
				t.Fatal(logErr)
			}
			log += l + "\n"
		}
		return log, err
	}
	rules, more := leastRules(t), documented(t, "In a Cluster, at each server, besides: `", "`")
	if log, err := refused(slices.Concat(rules, more)); err != nil || strings.Contains(log, "reason") {
		t.Fatalf("with %v: %v; refused was %q", more, err, log)
	}
	for i, rule := range more {
		t.Run(rule, func(t *testing.T) {
			log, _ := refused(slices.Concat(rules, more[:i], more[i+1:]))
			if !slices.Contains(strings.Split(log, "\n"), rule[1:]) {
				t.Errorf("nothing is refused without %s, but %q", rule, log)
			}
		})
	}
}
