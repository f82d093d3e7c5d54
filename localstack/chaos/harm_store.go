package chaos

import (
	"context"
	"fmt"
	"time"
)

// killStore takes the store away for 30 s. Collect answers 503 meanwhile.
func killStore(ctx context.Context, w *world) error {
	w.say("the store is away")
	before := w.answers.get(503)
	end := w.ledger.fault("absence of the store")
	w.cluster.store.kill()
	if err := w.rest(ctx, 30*time.Second); err != nil {
		return err
	}
	if err := w.cluster.store.start(ctx); err != nil {
		return err
	}
	end()
	w.say("the store is back; answers of Collect:%s", w.answers.String())
	if err := w.rest(ctx, 10*time.Second); err != nil {
		return err
	}
	if got := w.answers.get(503) - before; got == 0 {
		return fmt.Errorf("collect never answered 503; its answers:%s", w.answers.String())
	}
	return nil
}
