package node_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
)

// draining stops a node that many clients, users 0, 1, …, are connected to.
// stopped is closed when it has ended.
func draining(t *testing.T, n *testNode, many int) (clients []*wsClient, stopped chan struct{}) {
	for i := range many {
		a := dial(t, n, "")
		a.connect(fmt.Sprint(i), "")
		clients = append(clients, a)
	}
	stopped = make(chan struct{})
	go func() { defer close(stopped); n.stop() }()
	return clients, stopped
}

func TestDrain(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	clients, stopped := draining(t, c.nodes[0], 5)
	for i, a := range clients {
		if got := a.closed(); got != 3001 {
			t.Errorf("client %d was closed with %d, want 3001", i, got)
		}
		a.ws.Close()
	}
	<-stopped
	leases, err := c.reg.Nodes(context.Background(), []push.NodeID{c.nodes[0].id})
	if err != nil || len(leases) != 0 {
		t.Errorf("after the drain these leases are left: %v, %v", leases, err)
	}
	m := c.message(`1`)
	appended, err := c.reg.Append(context.Background(), items("#0", &m))
	if err != nil || len(appended.Items[0].Routes) != 0 {
		t.Errorf("after the drain these routes are left: %+v, %v", appended.Items, err)
	}
}

// A drain that nobody is left for is over.
func TestDrainEndsWithTheLastConnection(t *testing.T) {
	c := newCluster(t, node.Config{DrainTime: time.Minute}, 1)
	clients, stopped := draining(t, c.nodes[0], 3)
	if got := clients[0].closed(); got != 3001 { // the waves have begun
		t.Errorf("the first client was closed with %d, want 3001", got)
	}
	for _, a := range clients {
		a.ws.Close()
	}
	select {
	case <-stopped:
	case <-time.After(30 * time.Second):
		t.Error("the node still drains 30 s after its last connection has left, want it ended")
		<-stopped
	}
}
