package node

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
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

// A moody store takes cursors, or does not.
type moody struct {
	store.Cursors
	err error
}

func (m *moody) AdvanceCursors(context.Context, []store.Cursor) error { return m.err }
func (m *moody) TouchCursors(context.Context, []store.Cursor) error   { return m.err }

// A store that is away is told when that begins and when it ends, not for each
// write: there are five a second.
func TestStoreThatIsAwayIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged strings.Builder
		st := &moody{err: errors.New("away")}
		w := newCursorWriter(st, slog.New(slog.NewTextHandler(&logged, nil)), newMetrics(nil, &Node{}))
		cur := store.Cursor{User: "42", Device: "phone", Channel: "#42", Received: 1}
		w.advance(cur)
		for range 3 {
			w.flush(t.Context()) // what was not written waits
		}
		time.Sleep(2 * time.Second) // of the bubble's clock
		st.err = nil
		w.flush(t.Context())
		w.touch(cur)
		st.err = errors.New("away")
		for range 3 {
			w.flush(t.Context())
		}
		for what, want := range map[string]int{
			`msg=fails what="write of cursors"`: 1, `msg="works again" what="write of cursors" failed=3`: 1,
			`msg=fails what="touch of cursors"`: 1, "\n": 3,
		} {
			if n := strings.Count(logged.String(), what); n != want {
				t.Errorf("%d times %q, want %d, in\n%s", n, what, want, logged.String())
			}
		}
	})
}
