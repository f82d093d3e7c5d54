package node

import "context"

// A turn is a place in the line of those who change what a client follows: its
// own commands and orders of the server. They go one after another, in the order
// in which they came, each until the client was told and its cursor is written.
// Else one that ends a subscription would pass another that begins it, and what
// that one writes last would stay.
type turn struct {
	c *client
	w *waiter // nil: it came at once
}

// A waiter is who waits for a turn.
type waiter struct {
	came chan struct{} // closed when it is this one's turn
	next *waiter       // guarded by the client's mu
}

// lineUp takes a place in the line. It does not block. Whoever called it calls
// await, and, where that returns nil, over.
func (c *client) lineUp() turn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.changing {
		c.changing = true
		return turn{c: c}
	}
	w := &waiter{came: make(chan struct{})}
	last := &c.pass().line
	for *last != nil {
		last = &(*last).next
	}
	*last = w
	return turn{c, w}
}

// await waits for the turn. After an error, which is that of ctx, the place is
// given up.
func (t turn) await(ctx context.Context) error {
	if t.w == nil {
		return nil
	}
	select {
	case <-t.w.came:
		return nil
	case <-ctx.Done():
	}
	if !t.giveUp() {
		t.over() // it came meanwhile
	}
	return ctx.Err()
}

// giveUp leaves the line, and reports whether t was still in it.
func (t turn) giveUp() bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	if t.c.passing == nil {
		return false
	}
	for at := &t.c.passing.line; *at != nil; at = &(*at).next {
		if *at == t.w {
			*at = t.w.next
			t.c.passed()
			return true
		}
	}
	return false
}

// over gives the turn to the next in the line.
func (t turn) over() {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	if t.c.passing == nil || t.c.passing.line == nil {
		t.c.changing = false
		return
	}
	next := t.c.passing.line
	t.c.passing.line = next.next
	t.c.passed()
	close(next.came)
}
