package dispatchfn_test

import (
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
	"pushcluster/shared/registry/registrytest"
	"pushcluster/shared/store"
)

// An awayStore answers no claim of the outbox the first few times.
type awayStore struct {
	store.Store
	left atomic.Int32
}

func (s *awayStore) ClaimOutbox(ctx context.Context, now, until time.Time, limit int) ([]store.OutboxEntry, error) {
	if s.left.Add(-1) >= 0 {
		return nil, errors.New("no route to host")
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

// lines takes the lines of a log, up to its capacity without waiting.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// TestDispatchTellsALapseOnce has something away while five messages come.
func TestDispatchTellsALapseOnce(t *testing.T) {
	tests := map[string]struct {
		away func(c *cluster, st *deafStore, away bool) error
		part string
	}{
		"the store": {func(_ *cluster, st *deafStore, away bool) error {
			st.deaf.Store(away)
			return nil
		}, "no route to host"},
		"a log": {func(c *cluster, _ *deafStore, away bool) error {
			order := []string{"DEL", "push:{#42}:log"}
			if away {
				order = []string{"SET", "push:{#42}:log", "no log"}
			}
			_, err := registrytest.Do(c.redis.Addr(), order...)
			return err
		}, "WRONGTYPE"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, dispatchfn.Config{}, nil)
			st, told := &deafStore{Store: c.store}, make(lines, 1000)
			h, err := dispatchfn.New(dispatchfn.Config{Deadline: time.Minute, PushTime: time.Minute}, c.reg, st, takesAll{}, slog.New(slog.NewTextHandler(told, nil)), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Wait()
			sent := 0
			send := func(away bool) {
				t.Helper()
				sent++
				m := message(fmt.Sprint("lapse/", sent), toUsers("42"))
				if p := h.Dispatch(t.Context(), []*push.Message{m}, false)[0]; (p != nil) != away {
					t.Errorf("message %d comes to %v, want that it fails: %v", sent, p, away)
				}
			}
			send(false)
			for _, away := range []bool{true, false} {
				if err := tt.away(c, st, away); err != nil {
					t.Fatal(err)
				}
				for range 5 {
					send(away)
				}
			}
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for began := time.Now(); len(told) < 2 && time.Since(began) < time.Minute; <-tick.C {
				send(false)
			}
			tellsALapse(t, told, "dispatch of messages", tt.part)
		})
	}
}

// tellsALapse fails the test unless told has one line when five tries begin to
// fail, for a reason, and one when that ends.
func tellsALapse(t *testing.T, told lines, what, reason string) {
	t.Helper()
	close(told)
	var got []string
	for line := range told {
		got = append(got, line)
	}
	if len(got) != 2 || !strings.Contains(got[0], fmt.Sprintf("msg=fails what=%q err=", what)) || !strings.Contains(got[0], reason) ||
		!strings.Contains(got[1], fmt.Sprintf("msg=\"works again\" what=%q failed=5", what)) {
		t.Errorf("it told\n%s\nwant one line when that begins, with %q, and one when it ends", strings.Join(got, ""), reason)
	}
}

// TestRunTellsALapseOnce has the outbox away for five looks.
func TestRunTellsALapseOnce(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	st, told := &awayStore{Store: c.store}, make(lines, 1000)
	st.left.Store(5)
	h, err := dispatchfn.New(dispatchfn.Config{OutboxEvery: time.Millisecond}, c.reg, st, takesAll{}, slog.New(slog.NewTextHandler(told, nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); len(told) < 2 && time.Since(began) < time.Minute; {
		<-tick.C
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
	tellsALapse(t, told, "look at the outbox", "no route to host")
}
