package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pushcluster/pushnode/node"
	"pushcluster/shared/registry/registrytest"
)

// evict makes Redis evict something: it fills it with keys that may go.
func (c *cluster) evict() {
	c.t.Helper()
	if c.redis.Mini() != nil {
		c.t.Skip("skipped: miniredis evicts nothing")
	}
	c.redisDo("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
	c.redisDo("CONFIG", "SET", "maxmemory", "3mb")
	filler := strings.Repeat("x", 50_000)
	for i := range 100 {
		c.redisDo("SET", fmt.Sprint("filler:", i), filler, "PX", "5000")
	}
	c.redisDo("CONFIG", "SET", "maxmemory", "0")
}

func (c *cluster) redisDo(args ...string) {
	c.t.Helper()
	if _, err := registrytest.Do(c.redis.Addr(), args...); err != nil {
		c.t.Fatalf("%v: %v", args, err)
	}
}

// Redis was full: a channel's route, log and the log's end are all gone, and
// nothing follows that would show it. The beat finds the message in the inbox.
func TestEvictedRouteAndLog(t *testing.T) {
	c := newCluster(t, node.Config{BeatEvery: 200 * time.Millisecond, InboxSettle: 100 * time.Millisecond}, 1)
	a := dial(t, c.nodes[0], "")
	a.connect("42", "")
	c.send("#42", `1`)
	if got := a.receive(1); got != "1" {
		t.Fatalf("received %s, want 1", got)
	}
	c.nodes[0].deaf.Store(true) // as if the route had been gone when this was sent
	c.send("#42", `2`)
	c.redisDo("DEL", "push:{#42}:log", "push:{#42}:seen", "push:{#42}:routes")
	c.nodes[0].deaf.Store(false)
	c.evict()
	if got := a.receive(1); got != "2" {
		t.Errorf("received %s, want 2", got)
	}
}

// A message's log is evicted while its write to the inbox is under way, and its
// successor overtakes it on the way to the node: nothing that can be read shows
// that it exists, but the successor's predecessor does.
func TestEvictedBeforeTheInboxHasIt(t *testing.T) {
	c := newCluster(t, node.Config{BeatEvery: time.Hour}, 1)
	a := dial(t, c.nodes[0], "")
	a.connect("42", "")
	c.send("#42", `1`)
	late, next := c.message(`2`), c.message(`3`)
	lateAt, nextAt := c.place("#42", late), c.place("#42", next)
	c.redisDo("DEL", "push:{#42}:log", "push:{#42}:seen")
	c.evict()
	c.keep("#42", next, nextAt)
	c.push("#42", next, nextAt)
	c.keep("#42", late, lateAt)
	c.push("#42", late, lateAt)
	if got := a.receive(3); got != "1 2 3" {
		t.Errorf("received %s, want 1 2 3", got)
	}
}
