//go:build chaos

package clock

import (
	"os"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// lookEvery is how often the file is read.
const lookEvery = 100 * time.Millisecond

// Now returns a clock whose wall part is wrong by what the file that
// CHAOS_CLOCK names holds; by nothing while there is none.
func Now() func() time.Time {
	c := &moved{path: os.Getenv("CHAOS_CLOCK")}
	if c.path == "" {
		return time.Now
	}
	return c.now
}

type moved struct {
	path string

	mu     sync.Mutex // guards what follows
	looked time.Time
	by     time.Duration
}

func (c *moved) now() time.Time {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.looked) >= lookEvery {
		c.looked = now
		if text, err := os.ReadFile(c.path); err == nil {
			if by, err := time.ParseDuration(strings.TrimSpace(string(text))); err == nil {
				c.by = by
			}
		}
	}
	return setWall(now, c.by)
}

// setWall moves the wall part of t, in whole seconds, and leaves its monotonic
// part alone. No method of time.Time does; its test says whether this still fits
// the type's layout.
func setWall(t time.Time, by time.Duration) time.Time {
	layout := (*struct {
		wall uint64 // from the top: 1 if there is a monotonic part, 33 bits of seconds, 30 of nanoseconds
		ext  int64  // the monotonic part
		loc  *time.Location
	})(unsafe.Pointer(&t))
	layout.wall += uint64(int64(by/time.Second)) << 30
	return t
}
