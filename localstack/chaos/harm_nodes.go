package chaos

import (
	"context"
	"time"
)

// killNodes kills one node, whose clients come back to the same port, and then
// another one, whose clients land elsewhere.
func killNodes(ctx context.Context, w *world) error {
	same, other := w.cluster.nodes[0], w.cluster.nodes[1]
	for _, c := range w.clients {
		c.mu.Lock()
		c.sticky = c.home%nodeCount == 0
		c.mu.Unlock()
	}
	w.say("%s is killed; its clients come back to its port", same.name)
	end := w.ledger.fault("kill of " + same.name)
	same.kill()
	if err := w.rest(ctx, 700*time.Millisecond); err != nil {
		return err
	}
	if err := same.start(ctx); err != nil {
		return err
	}
	end()
	if err := w.rest(ctx, w.long(12*time.Second)); err != nil {
		return err
	}
	w.say("%s is killed; its clients go elsewhere", other.name)
	other.up.Store(false)
	w.ledger.fault("kill of " + other.name)()
	other.kill()
	if err := w.rest(ctx, w.long(12*time.Second)); err != nil {
		return err
	}
	if err := other.start(ctx); err != nil {
		return err
	}
	return w.awaitWhole(ctx, 20*time.Second)
}
