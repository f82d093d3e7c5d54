package node

import (
	"runtime"
	"sync/atomic"
)

// Connections returns how many there are.
func (n *Node) Connections() int { return n.connections() }

// CountFreed has each connection of now counted once its memory is free.
func (n *Node) CountFreed(freed *atomic.Int64) {
	for _, c := range n.allClients() {
		runtime.AddCleanup(c, func(f *atomic.Int64) { f.Add(1) }, freed)
	}
}
