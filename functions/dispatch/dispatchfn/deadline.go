package dispatchfn

import (
	"context"
	"sync/atomic"
	"time"
)

// deadlineTurn is for how long what begins shares a deadline, at most.
const deadlineTurn = 100 * time.Millisecond

// deadlines makes contexts that end after a time. Whatever begins within a short
// time under the same parent, one of few, shares one, because a timer and a
// context for each cost more than some of what they are for.
type deadlines struct {
	after time.Duration
	last  [4]atomic.Pointer[sharedDeadline] // of as many parents
	next  atomic.Uint32                     // which of them makes room
}

// A sharedDeadline is the context of what began under parent from a time on and
// before until.
type sharedDeadline struct {
	parent      context.Context
	ctx         context.Context // ends by itself
	end         context.CancelFunc
	from, until time.Time
}

// under returns a context of parent for what began at a time, now or earlier: it
// ends when the time has passed since then, up to turn earlier, or with parent.
func (d *deadlines) under(parent context.Context, began time.Time) context.Context {
	mine := -1
	for i := range d.last {
		s := d.last[i].Load()
		if s == nil || s.parent != parent {
			continue
		}
		if !began.Before(s.from) && began.Before(s.until) {
			return s.ctx
		}
		mine = i
	}
	if mine < 0 {
		mine = int(d.next.Add(1) % uint32(len(d.last)))
	}
	s := &sharedDeadline{parent: parent, from: began, until: began.Add(d.turn())}
	s.ctx, s.end = context.WithDeadline(parent, began.Add(d.after))
	d.last[mine].Store(s) // of two at once either does
	return s.ctx
}

// least is how long a context lasts at least, if its parent does.
func (d *deadlines) least() time.Duration { return d.after - d.turn() }

// turn is by how much a context may end early, at most.
func (d *deadlines) turn() time.Duration { return min(deadlineTurn, d.after/16) }
