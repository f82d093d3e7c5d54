package dispatchfn

import (
	"context"
	"sync/atomic"
	"time"
)

// deadlineTurn is for how long what begins shares a deadline, at most.
const deadlineTurn = 100 * time.Millisecond

// deadlines makes contexts that end after a time. Whatever begins within a short
// time under the same parent shares one, because a timer and a context for each
// cost more than some of what they are for.
type deadlines struct {
	after time.Duration
	last  atomic.Pointer[sharedDeadline]
}

// A sharedDeadline is the context of what begins under parent before until.
type sharedDeadline struct {
	parent context.Context
	ctx    context.Context // ends by itself
	end    context.CancelFunc
	until  time.Time
}

// under returns a context of parent for what begins now: it ends after the time,
// up to a sixteenth of that earlier, or with parent.
func (d *deadlines) under(parent context.Context, now time.Time) context.Context {
	if s := d.last.Load(); s != nil && s.parent == parent && now.Before(s.until) {
		return s.ctx
	}
	s := &sharedDeadline{parent: parent, until: now.Add(min(deadlineTurn, d.after/16))}
	s.ctx, s.end = context.WithTimeout(parent, d.after)
	d.last.Store(s) // of two at once either does
	return s.ctx
}
