// Package label bounds how many values the labels of metrics have. Sources and
// their rules come and go over the API, and a series stays until its process
// ends.
package label

import (
	"sync"

	"pushcluster/functions/collect/source"
)

// Other is the label of all that have none of their own.
const Other = "other"

// A Set is the values that a label has. It may be used by several goroutines.
type Set struct {
	most int

	mu    sync.RWMutex // guards what follows
	known map[string]bool
}

// New returns a set that takes up to most values.
func New(most int) *Set { return &Set{most: most, known: make(map[string]bool)} }

// Sources returns a set for the names of sources: as many as a file and the store
// may hold.
func Sources() *Set { return New(2 * source.MaxStored) }

// Of returns name, or Other once there are too many names. The empty name counts
// for nothing.
func (s *Set) Of(name string) string {
	s.mu.RLock()
	known, full := s.known[name], len(s.known) >= s.most
	s.mu.RUnlock()
	if known || name == "" {
		return name
	}
	if full {
		return Other
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[name] {
		return name
	}
	if len(s.known) >= s.most {
		return Other
	}
	s.known[name] = true
	return name
}
