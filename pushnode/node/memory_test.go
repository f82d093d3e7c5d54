package node_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"pushcluster/pushnode/node"
)

// A user whose device comes again and again, each time before its last connection
// is closed, has one connection in memory in the end, whoever answers handshakes.
func TestEndedConnectionsAreFreed(t *testing.T) {
	handshakes := map[string]string{
		"the node itself": "x=1",
		"gorilla":         "", // behind a question mark: the front leaves it to net/http
	}
	for name, query := range handshakes {
		t.Run(name, func(t *testing.T) {
			const rounds = 40
			c := newCluster(t, node.Config{}, 1)
			n := c.nodes[0]
			var freed atomic.Int64
			var last *wsClient
			for range rounds {
				client := dial(t, n, query)
				client.connect("42", "")
				if last != nil {
					last.ws.Close()
					eventually(t, "the last connection ends", func() bool { return n.Connections() == 1 })
				}
				n.CountFreed(&freed)
				last = client
			}
			eventually(t, fmt.Sprintf("%d connections are freed", rounds-1), func() bool {
				runtime.GC()
				return freed.Load() >= rounds-1-1 // the one before the last may be on its way
			})
		})
	}
}
