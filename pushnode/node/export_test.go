package node

import (
	"runtime"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Connections returns how many there are.
func (n *Node) Connections() int { return n.connections() }

// CountFreed has each connection of now counted once its memory is free.
func (n *Node) CountFreed(freed *atomic.Int64) {
	for _, c := range n.allClients() {
		runtime.AddCleanup(c, func(f *atomic.Int64) { f.Add(1) }, freed)
	}
}

// InLine returns how many wait to change what a client follows.
func (n *Node) InLine() int {
	count := 0
	for _, c := range n.allClients() {
		c.mu.Lock()
		if c.passing != nil {
			for w := c.passing.line; w != nil; w = w.next {
				count++
			}
		}
		c.mu.Unlock()
	}
	return count
}

// Slow returns how many connections were closed as slow for this reason.
func (n *Node) Slow(reason string) float64 {
	return testutil.ToFloat64(n.metrics.slow.WithLabelValues(reason))
}
