package node_test

import (
	"encoding/json"
	"testing"
	"time"

	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
)

func TestStatus(t *testing.T) {
	c := newCluster(t, node.Config{Build: "v7"}, 1)
	dial(t, c.nodes[0], "").connect("42", "")
	dial(t, c.nodes[0], "").connect("42", "")
	dial(t, c.nodes[0], "").connect("43", "")
	var got push.StatusAnswer
	raw := c.post(c.nodes[0].id, "/v1/node/status", push.StatusRequest{})
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatalf("answered %s: %v", raw, err)
	}
	age := time.Since(got.StartedAt)
	if got.Node != c.nodes[0].id || got.Connections != 3 || got.Users != 2 || got.Channels != 3 || got.Version != "v7" || age < 0 || age > time.Minute {
		t.Errorf("the status of a node with two users on three connections is %s", raw)
	}
}
