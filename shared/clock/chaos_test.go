//go:build chaos

package clock

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSetWall(t *testing.T) {
	for name, by := range map[string]time.Duration{"ahead": 5 * time.Minute, "behind": -5 * time.Minute, "right": 0} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			moved := setWall(now, by)
			if got := moved.Sub(now); got != 0 {
				t.Errorf("by the monotonic part the moved time is %v off, want 0", got)
			}
			if got := moved.Round(0).Sub(now.Round(0)); got != by {
				t.Errorf("by the wall the moved time is %v off, want %v", got, by)
			}
		})
	}
}

func TestNow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	t.Setenv("CHAOS_CLOCK", path)
	now := Now()
	before := time.Now()
	if got, after := now(), time.Now(); got.Before(before) || got.After(after) {
		t.Errorf("without a file the clock says %v, between %v and %v", got, before, after)
	}
	if err := os.WriteFile(path, []byte("-5m0s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; {
		off := now().Round(0).Sub(time.Now().Round(0))
		if off < -4*time.Minute && off > -6*time.Minute {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the clock is %v off, want -5m", off)
		}
	}
}
