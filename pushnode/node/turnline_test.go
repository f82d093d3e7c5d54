package node

import (
	"context"
	"errors"
	"testing"
)

// Who waits has its turn in the order in which it came, and who waits no longer
// keeps nobody waiting.
func TestTurns(t *testing.T) {
	n := crowd(t, 1)
	c := n.clients[0]
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	first, second, third, fourth := c.lineUp(), c.lineUp(), c.lineUp(), c.lineUp()
	if err := first.await(ended); err != nil {
		t.Errorf("the first waits: %v", err)
	}
	if err := third.await(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("the third has its turn beside the first: %v", err)
	}
	first.over()
	if err := second.await(t.Context()); err != nil {
		t.Errorf("the second: %v", err)
	}
	select {
	case <-fourth.w.came:
		t.Error("the fourth has its turn beside the second")
	default:
	}
	second.over()
	// Its turn came while it gave up: the next one has it.
	fifth := c.lineUp()
	if fourth.giveUp() {
		t.Error("the fourth was still in the line after its turn came")
	}
	fourth.over()
	if err := fifth.await(t.Context()); err != nil {
		t.Errorf("the fifth: %v", err)
	}
	fifth.over()
	if c.changing || c.passing != nil && c.passing.line != nil {
		t.Error("nobody is in the line, and it is somebody's turn")
	}
}
