package registrytest

import (
	"context"
	"sync"

	"pushcluster/shared/push"
)

// Terms keeps the term in memory, as the store does durably. Its zero value is
// ready for use.
type Terms struct {
	mu   sync.Mutex // guards what follows
	term push.Term
	err  error
}

// Fail makes all calls fail with err, until it is called with nil.
func (t *Terms) Fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err
}

// Term returns the newest term, the zero Term if there was none.
func (t *Terms) Term(context.Context) (push.Term, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.term, t.err
}

// TermLasts reports whether the newest term has this marker.
func (t *Terms) TermLasts(_ context.Context, marker string) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err == nil && t.term.Number > 0 && t.term.Marker == marker, t.err
}

// SwapTerm replaces the term by next if it is still old in every field, and
// reports whether it did.
func (t *Terms) SwapTerm(_ context.Context, old, next push.Term) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil || t.term != old {
		return false, t.err
	}
	t.term = next
	return true, nil
}
