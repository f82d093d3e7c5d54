package dispatchfn_test

import (
	"encoding/json"
	"testing"
	"time"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
)

// Of each node there is what its lease says; whoever answers tells the rest.
func TestNodes(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{PushTime: 3 * time.Second}, nil)
	status := push.NodeStatus{Connections: 3, Users: 2, Channels: 4, StartedAt: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), Version: "v1"}
	good := c.answering("good", func(id push.NodeID, path string, _ []byte) any {
		if path != "/v1/node/status" {
			t.Errorf("the node was asked %s", path)
		}
		return push.StatusAnswer{Node: id, NodeStatus: status}
	})
	// A successor at the address of one whose lease has not ended yet.
	c.answering("other", func(push.NodeID, string, []byte) any {
		return push.StatusAnswer{Node: "somebody else", NodeStatus: status}
	})
	c.answering("slow", func(push.NodeID, string, []byte) any { return nil })
	const closed = push.NodeID("127.0.0.1:1~closed")
	if _, err := c.reg.Grant(t.Context(), registry.Lease{Node: closed, Draining: true}); err != nil {
		t.Fatal(err)
	}
	code, raw := c.question("/v1/dispatch/nodes", `{}`)
	var got push.NodesAnswer
	if err := json.Unmarshal(raw, &got); err != nil || code != 200 || len(got.Nodes) != 4 {
		t.Fatalf("answered %d %s, want four nodes", code, raw)
	}
	for i, n := range got.Nodes {
		left, err := time.ParseDuration(n.LeaseLeft)
		if err != nil || left <= 0 || left > patience {
			t.Errorf("%s: its lease lasts %q", n.Node, n.LeaseLeft)
		}
		if n.Address != n.Node.Addr() || n.Draining != (n.Node == closed) || n.Answered != (n.Node == good) {
			t.Errorf("%+v: wrong address, draining or answered", n)
		}
		if n.Answered && (n.NodeStatus == nil || *n.NodeStatus != status) {
			t.Errorf("%s says %+v, want %+v", n.Node, n.NodeStatus, status)
		}
		if !n.Answered && n.NodeStatus != nil {
			t.Errorf("%s did not answer, and says %+v", n.Node, n.NodeStatus)
		}
		if i > 0 && got.Nodes[i-1].Node >= n.Node {
			t.Errorf("%s comes before %s", got.Nodes[i-1].Node, n.Node)
		}
	}

	t.Run("none", func(t *testing.T) {
		c := newCluster(t, dispatchfn.Config{}, nil)
		if code, raw := c.question("/v1/dispatch/nodes", `{}`); code != 200 || string(raw) != "{\"nodes\":[]}\n" {
			t.Errorf("without a node it is answered %d %s", code, raw)
		}
	})
	t.Run("Redis is away", func(t *testing.T) {
		c.redis.Stop()
		if code, raw := c.question("/v1/dispatch/nodes", `{}`); code != 503 {
			t.Errorf("answered %d %s, want 503", code, raw)
		}
	})
}
