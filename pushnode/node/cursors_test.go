package node

import (
	"context"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A meeting is a store in which a removal ends when another is under way.
type meeting struct {
	store.Cursors
	came chan struct{}
}

func (m meeting) RemoveCursors(ctx context.Context, _ push.UserID, _ push.Device, _ []push.Channel) error {
	select {
	case m.came <- struct{}{}:
	case <-m.came:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// Many leave a topic at the same moment: the store can take that together.
func TestRemovalsMeet(t *testing.T) {
	w := &cursorWriter{store: meeting{came: make(chan struct{})}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan error)
	for _, user := range []push.UserID{"1", "2"} {
		go func() { ended <- w.remove(ctx, user, "phone", "news") }()
	}
	for range 2 {
		if err := <-ended; err != nil {
			t.Errorf("one removal waits for the other: %v", err)
		}
	}
}
