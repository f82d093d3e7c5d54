package source

import "context"

// A turn is a lock that nobody has to wait for. Whoever gets it gives it back
// with end.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// try takes the turn if it is free, and reports whether it was.
func (t turn) try() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

// wait takes the turn once it is free. It returns false, without the turn, if ctx
// ends before; a free one is taken even if ctx has ended.
func (t turn) wait(ctx context.Context) bool {
	if t.try() {
		return true
	}
	select {
	case t <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t turn) end() { <-t }
