package dispatchfn_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

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

func TestTenThousandUsers(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{Deadline: time.Minute}, nil)
	nodes := []*node{c.node(), c.node(), c.node()}
	var users []push.UserID
	routes := make([][]registry.ChannelRoute, len(nodes))
	many := push.MaxRecipients / slowdown
	if c.redis.Mini() != nil {
		many /= 10 // it is a Redis for tests, and slow
	}
	for i := range many {
		u := push.UserID(fmt.Sprint(i))
		users = append(users, u)
		routes[i%len(nodes)] = append(routes[i%len(nodes)], route(push.Personal(u), int64(i+1)))
	}
	for i, n := range nodes {
		n.add(routes[i]...)
	}
	// The best of three: other tests run on the same machine.
	best := time.Hour
	for try := 1; try <= 3 && best > 2*time.Second; try++ {
		for _, n := range nodes {
			n.mu.Lock()
			n.requests = nil
			n.mu.Unlock()
		}
		start := time.Now()
		c.send(false, message("m1", toUsers(users...)))
		best = min(best, time.Since(start))
		if try < 3 && best > 2*time.Second {
			c.redis.FlushAll() // and every place is taken anew
			for i, n := range nodes {
				if _, err := c.reg.Grant(t.Context(), registry.Lease{Node: n.id}); err != nil {
					t.Fatal(err)
				}
				n.add(routes[i]...)
			}
		}
	}
	t.Logf("%d users on 3 nodes took %v", len(users), best)
	if best > 2*time.Second {
		t.Errorf("%d users took %v, more than 2 s", len(users), best)
	}
	for i, n := range nodes {
		if len(n.got()) != len(routes[i]) || n.count() != 1 {
			t.Errorf("node %d got %d entries in %d requests, want %d in one", i, len(n.got()), n.count(), len(routes[i]))
		}
	}
	for _, u := range []push.UserID{users[0], users[len(users)/2], users[len(users)-1]} {
		if c.inbox(push.Personal(u), "m1") == 0 {
			t.Errorf("the inbox of user %s is empty", u)
		}
	}
}
