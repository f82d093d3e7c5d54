package dispatchfn_test

import (
	"fmt"
	"sync"
	"testing"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
)

// What one sender sends after the other, from many senders at once, arrives in
// order and once.
func TestManyAtOnce(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	n := c.node(route("news", 1))
	var wg sync.WaitGroup
	for s := range 8 {
		wg.Go(func() {
			for i := range 10 {
				m := message(fmt.Sprintf("%d-%02d", s, i), push.Recipients{Channels: []push.Channel{"news"}})
				if p := c.Dispatch(t.Context(), []*push.Message{m}, false)[0]; p != nil {
					t.Error(p)
				}
			}
		})
	}
	wg.Wait()
	log := c.log("news")
	if len(log) != 80 || len(n.got()) != 80 {
		t.Fatalf("the log has %d, the node got %d, want 80", len(log), len(n.got()))
	}
	last := map[push.MessageID]push.MessageID{}
	for i, e := range log {
		if i > 0 && e.Prev != log[i-1].Offset {
			t.Errorf("entry %d follows %d, want %d", i, e.Prev, log[i-1].Offset)
		}
		sender := e.Message.ID[:1]
		if e.Message.ID <= last[sender] {
			t.Errorf("%s comes after %s", e.Message.ID, last[sender])
		}
		last[sender] = e.Message.ID
	}
}

// manyRouted returns the most users that one message may have, who are connected to
// nodes, as evenly as can be.
func (c *cluster) manyRouted(nodes ...*node) []push.UserID {
	c.t.Helper()
	var users []push.UserID
	many := push.MaxRecipients
	if c.redis.Mini() != nil {
		many /= 10 // it is a Redis for tests, and slow
	}
	routes := make([][]registry.ChannelRoute, len(nodes))
	for i := range many {
		u := push.UserID(fmt.Sprint(i))
		users = append(users, u)
		routes[i%len(nodes)] = append(routes[i%len(nodes)], route(push.Personal(u), int64(i+1)))
	}
	for i, n := range nodes {
		n.add(routes[i]...)
	}
	return users
}

// A message for very many users reaches each node in one request.
func TestTenThousandUsers(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	nodes := []*node{c.node(), c.node(), c.node()}
	users := c.manyRouted(nodes...)
	c.send(false, message("m1", toUsers(users...)))
	total := 0
	for i, n := range nodes {
		total += len(n.got())
		if n.count() != 1 {
			t.Errorf("node %d got %d requests, want one", i, n.count())
		}
	}
	if total != len(users) {
		t.Errorf("the nodes got %d entries, want %d", total, len(users))
	}
	for _, u := range []push.UserID{users[0], users[len(users)/2], users[len(users)-1]} {
		if c.inbox(push.Personal(u), "m1") == 0 {
			t.Errorf("the inbox of user %s is empty", u)
		}
	}
}

// BenchmarkTenThousandUsers sends messages for as many users as one may have, on
// three nodes, with their inboxes on SQLite.
func BenchmarkTenThousandUsers(b *testing.B) {
	c := newCluster(b, dispatchfn.Config{}, nil)
	users := c.manyRouted(c.node(), c.node(), c.node())
	for i := 0; b.Loop(); i++ {
		c.send(false, message(fmt.Sprint("m", i), toUsers(users...)))
	}
}
