package hub

import "context"

// Register makes sure that the channel's route is written: the first caller
// runs write, the others wait for it. After an error the next caller tries
// again. It returns write's error, or ctx's.
func (ch *Channel) Register(ctx context.Context, write func() error) error {
	ch.mu.Lock()
	for ch.writing {
		if ch.ended == nil {
			ch.ended = make(chan struct{})
		}
		wait := ch.ended
		ch.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
		ch.mu.Lock()
	}
	if ch.written {
		ch.mu.Unlock()
		return nil
	}
	ch.writing = true
	ch.mu.Unlock()

	err := write()

	ch.mu.Lock()
	ch.written, ch.writing = err == nil, false
	ended := ch.ended
	ch.ended = nil
	ch.mu.Unlock()
	if ended != nil {
		close(ended)
	}
	return err
}
