package dispatchfn

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestDeadlines: what begins together shares a context, and none lasts longer than
// it may or ends much earlier.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(t.Context())
		defer cancel()
		other, cancelOther := context.WithCancel(t.Context())
		defer cancelOther()
		d := &deadlines{after: time.Second}
		began := time.Now()
		first := d.under(parent, began)
		if d.under(parent, began.Add(time.Second/16-1)) != first {
			t.Error("what begins within a sixteenth has a context of its own")
		}
		if d.under(parent, began.Add(time.Second/16)) == first {
			t.Error("what begins after a sixteenth shares the context")
		}
		if d.under(other, began) == first {
			t.Error("what has another parent shares the context")
		}
		turns := map[context.Context]bool{}
		for range 10 {
			turns[d.under(parent, began.Add(time.Second/8))] = true
			turns[d.under(other, began.Add(time.Second/8))] = true
		}
		if len(turns) != 2 {
			t.Errorf("where two parents take turns there are %d contexts, want one of each", len(turns))
		}
		if end, _ := d.under(parent, began.Add(-time.Second/2)).Deadline(); end != began.Add(time.Second/2) {
			t.Errorf("what began before lasts until %v, want %v", end, began.Add(time.Second/2))
		}
		<-first.Done()
		if took := time.Since(began); took != time.Second || first.Err() != context.DeadlineExceeded {
			t.Errorf("it ended after %v with %v, want 1s and %v", took, first.Err(), context.DeadlineExceeded)
		}
		last := d.under(other, time.Now())
		cancelOther()
		if last.Err() != context.Canceled {
			t.Errorf("it ended with %v when its parent did, want %v", last.Err(), context.Canceled)
		}
	})
}
