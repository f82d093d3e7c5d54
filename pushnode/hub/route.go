package hub

import (
	"context"
	"sync"
)

// Register makes sure that the channel's route is written: the first caller
// runs write, the others wait for it. After an error the next caller tries
// again. It returns write's error, or ctx's.
func (ch *Channel) Register(ctx context.Context, write func() error) error {
	return ch.route.do(ctx, write)
}

// route remembers whether a channel's route is written.
type route struct {
	mu      sync.Mutex
	written bool
	writing chan struct{} // closed when the write under way has ended
}

func (r *route) do(ctx context.Context, write func() error) error {
	r.mu.Lock()
	for r.writing != nil {
		wait := r.writing
		r.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
		r.mu.Lock()
	}
	if r.written {
		r.mu.Unlock()
		return nil
	}
	ended := make(chan struct{})
	r.writing = ended
	r.mu.Unlock()

	err := write()

	r.mu.Lock()
	r.written = err == nil
	r.writing = nil
	r.mu.Unlock()
	close(ended)
	return err
}
