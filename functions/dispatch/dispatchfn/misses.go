package dispatchfn

import (
	"sync"
	"time"

	"pushcluster/shared/push"
)

// missMemory is how long it is remembered that a node missed something. Its
// own slow beat has found it long before.
const missMemory = 2 * time.Minute

// Misses holds the nodes that something did not reach. The next request to such
// a node asks it to compare its positions with what is stored; and one that did
// not answer in time is left out for a while.
type misses struct {
	mu     sync.Mutex // guards what follows
	byNode map[push.NodeID]miss
}

type miss struct {
	at        time.Time // the last one
	skipUntil time.Time // zero: it is not left out
}

// of reports whether a node missed something lately, and whether it is left out
// at now.
func (m *misses) of(node push.NodeID, now time.Time) (missed, skip bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, ok := m.byNode[node]
	return ok && now.Sub(last.at) < missMemory, ok && now.Before(last.skipUntil)
}

// add notes a miss at now, and leaves the node out for skip, if that is more
// than zero. It forgets what is too old to matter.
func (m *misses) add(node push.NodeID, now time.Time, skip time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, ok := m.byNode[node]
	if !ok {
		for n, old := range m.byNode {
			if now.Sub(old.at) >= missMemory {
				delete(m.byNode, n)
			}
		}
	}
	last.at = now
	if skip > 0 {
		last.skipUntil = now.Add(skip)
	}
	m.byNode[node] = last
}

// forget notes that a request that began at since has told the node, unless it
// missed something after that.
func (m *misses) forget(node push.NodeID, since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if last, ok := m.byNode[node]; ok && !last.at.After(since) {
		delete(m.byNode, node)
	}
}
