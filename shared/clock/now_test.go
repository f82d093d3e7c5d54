//go:build !chaos

package clock

import (
	"testing"
	"time"
)

// TestNow shows that a program built without the tag cannot be moved.
func TestNow(t *testing.T) {
	t.Setenv("CHAOS_CLOCK", "testdata/none")
	before := time.Now()
	if got := Now()(); got.Before(before) || got.After(time.Now()) {
		t.Errorf("Now() = %v, want the present", got)
	}
}
