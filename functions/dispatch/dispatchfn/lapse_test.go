package dispatchfn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// An awayStore answers no claim of the outbox the first few times, and tells when
// it has answered one.
type awayStore struct {
	store.Store
	left     atomic.Int32
	answered chan struct{} // takes one without waiting
}

func (s *awayStore) ClaimOutbox(ctx context.Context, now, until time.Time, limit int) ([]store.OutboxEntry, error) {
	if s.left.Add(-1) >= 0 {
		return nil, errors.New("no route to host")
	}
	select {
	case s.answered <- struct{}{}:
	default:
	}
	return s.Store.ClaimOutbox(ctx, now, until, limit)
}

// A deafStore writes no inbox while it is deaf.
type deafStore struct {
	store.Store
	deaf atomic.Bool
}

func (s *deafStore) WriteInbox(ctx context.Context, entries []store.InboxEntry) ([]store.Placement, error) {
	if s.deaf.Load() {
		return nil, errors.New("no route to host")
	}
	return s.Store.WriteInbox(ctx, entries)
}

// TestDispatchTellsALapseOnce has the store away while five messages come.
func TestDispatchTellsALapseOnce(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	st := &deafStore{Store: c.store}
	var out bytes.Buffer
	h, err := dispatchfn.New(dispatchfn.Config{}, c.reg, st, takesAll{}, slog.New(slog.NewTextHandler(&out, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Wait()
	for i, away := range []bool{false, true, true, true, true, true, false, false} {
		st.deaf.Store(away)
		m := message(fmt.Sprint("lapse/", i), toUsers("42"))
		if p := h.Dispatch(t.Context(), []*push.Message{m}, false)[0]; (p != nil) != away {
			t.Errorf("message %d comes to %v, want that it fails: %v", i, p, away)
		}
	}
	lines := strings.SplitAfter(out.String(), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], `msg=fails what="dispatch of messages" err=`) || !strings.Contains(lines[1], `msg="works again" what="dispatch of messages" failed=5`) {
		t.Errorf("it told\n%s\nwant one line when that begins and one when it ends", &out)
	}
}

// TestRunTellsALapseOnce has the outbox away for five looks.
func TestRunTellsALapseOnce(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	st := &awayStore{Store: c.store, answered: make(chan struct{}, 1)}
	st.left.Store(5)
	var out bytes.Buffer
	h, err := dispatchfn.New(dispatchfn.Config{OutboxEvery: time.Millisecond}, c.reg, st, takesAll{}, slog.New(slog.NewTextHandler(&out, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	for range 2 { // the first look that found an answer has been told when another follows
		<-st.answered
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
	lines := strings.SplitAfter(out.String(), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], `msg=fails what="look at the outbox" err=`) || !strings.Contains(lines[1], `msg="works again" what="look at the outbox" failed=5`) {
		t.Errorf("it told\n%s\nwant one line when that begins and one when it ends", &out)
	}
}
