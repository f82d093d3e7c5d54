package dispatchfn_test

import (
	"testing"

	"pushcluster/functions/dispatch/dispatchfn"
)

// Redis has forgotten the nodes and their routes. The first message after that
// tells those that lately took something to look for themselves; the next one
// does not again.
func TestNewTermRousesNodes(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	n := c.node(route("#42", 1))
	silent := c.node()
	c.send(false, message("a", toUsers("42")))
	c.redis.FlushAll()
	c.send(false, message("b", toUsers("7")))
	c.send(false, message("c", toUsers("8")))
	var beats []int // entries of the requests that ask for a beat
	n.mu.Lock()
	for _, r := range n.requests {
		if r.Beat {
			beats = append(beats, len(r.Entries))
		}
	}
	n.mu.Unlock()
	if len(beats) != 1 || beats[0] != 0 {
		t.Errorf("the node was asked for beats with %v entries, want once, with none", beats)
	}
	if got := silent.count(); got != 0 {
		t.Errorf("a node that never took anything got %d requests, want 0", got)
	}
}
