package stack

import (
	"context"
	"fmt"
	"sync/atomic"

	"pushcluster/shared/store"
)

// A cutStore is a process' way to the store, which its end cuts. Only what a
// process writes when it ends in good order needs to be refused then.
type cutStore struct {
	store.Store
	gone atomic.Bool
}

func (c *cutStore) cut()        { c.gone.Store(true) }
func (c *cutStore) isCut() bool { return c.gone.Load() }

// AdvanceCursors is what a node does last of all.
func (c *cutStore) AdvanceCursors(ctx context.Context, cursors []store.Cursor) error {
	if c.isCut() {
		return fmt.Errorf("advance cursors: the process was killed: %w", store.ErrUnavailable)
	}
	return c.Store.AdvanceCursors(ctx, cursors)
}
