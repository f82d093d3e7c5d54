package storetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

var lifeTests = []test{
	{"life/ping", testPing},
	{"life/prepare again", testPrepareAgain},
	{"life/sweep", testSweep},
	{"life/time is over", testTimeOver},
	{"life/closed", testClosed},
}

func testPing(t *testing.T, s store.Store) { check(t, s.Ping(t.Context())) }

func testPrepareAgain(t *testing.T, s store.Store) {
	insert(t, s, "m")
	write(t, s, entry("c", 1, "m"))
	prepare(t, s)
	wantOffsets(t, s, "c", 1)
}

func testSweep(t *testing.T, s store.Store) {
	old, ending, fresh := message("old"), message("ending"), message("fresh")
	old.ExpiresAt, ending.ExpiresAt = base.Add(time.Minute), base.Add(time.Hour)
	fresh.ExpiresAt = base.Add(30 * 24 * time.Hour)
	_, err := s.InsertMessages(t.Context(), []store.Record{old, ending, fresh})
	check(t, err)
	e1, e2 := entry("c", 1, "old"), entry("c", 2, "fresh")
	e1.ExpiresAt, e2.ExpiresAt = old.ExpiresAt, fresh.ExpiresAt
	write(t, s, e1, e2)
	check(t, s.AdvanceCursors(t.Context(), []store.Cursor{
		{User: "u", Device: "idle", Channel: "c", UpdatedAt: base},
		{User: "u", Device: "busy", Channel: "c", UpdatedAt: base.Add(store.CursorIdle)},
	}))
	check(t, s.PutOutbox(t.Context(), []store.OutboxEntry{{Message: "old", DueAt: base}}))
	swapped, err := s.SwapTerm(t.Context(), push.Term{}, push.Term{Number: 1})
	check(t, err)
	if !swapped {
		t.Error("the first term could not be set")
	}

	steps := []struct {
		name           string
		now            time.Time
		want           int
		entries        []push.Offset
		messages       []push.MessageID
		idleCursorLeft bool
	}{
		{"nothing has expired", base, 0, []push.Offset{1, 2}, []push.MessageID{"ending", "fresh", "old"}, true},
		{"an entry goes with its expiry", base.Add(time.Minute), 1, []push.Offset{2}, []push.MessageID{"ending", "fresh", "old"}, true},
		{"a repeat finds its message", base.Add(time.Minute + push.RepeatWindow - time.Millisecond), 0, []push.Offset{2}, []push.MessageID{"ending", "fresh", "old"}, true},
		{"until the window ends", base.Add(time.Minute + push.RepeatWindow), 1, []push.Offset{2}, []push.MessageID{"ending", "fresh"}, true},
		{"idle cursors, and all that is older", base.Add(store.CursorIdle), 4, nil, nil, false},
		{"nothing is left", base.Add(store.CursorIdle), 0, nil, nil, false},
	}
	for _, step := range steps {
		n, err := s.Sweep(t.Context(), step.now)
		check(t, err)
		if n != step.want {
			t.Errorf("%s: %d records went, want %d", step.name, n, step.want)
		}
		wantOffsets(t, s, "c", step.entries...)
		loaded, err := s.LoadMessages(t.Context(), []push.MessageID{"old", "ending", "fresh"})
		check(t, err)
		if got := slices.Sorted(maps.Keys(loaded)); !slices.Equal(got, step.messages) {
			t.Errorf("%s: messages %v are left, want %v", step.name, got, step.messages)
		}
		if got := len(cursors(t, s, "u", "idle")) == 1; got != step.idleCursorLeft {
			t.Errorf("%s: the idle cursor is left: %v, want %v", step.name, got, step.idleCursorLeft)
		}
		if len(cursors(t, s, "u", "busy")) != 1 {
			t.Errorf("%s: the busy cursor went", step.name)
		}
	}
	if got := claim(t, s, base, 10); len(got) != 1 {
		t.Errorf("the sweep left %d of 1 outbox entries", len(got))
	}
	if term, err := s.Term(t.Context()); err != nil || term.Number != 1 {
		t.Errorf("the sweep left the term %+v, %v", term, err)
	}
}

// everyCall names each method of a store that takes a context.
func everyCall(s store.Store) map[string]func(context.Context) error {
	second := func(_ any, err error) error { return err }
	return map[string]func(context.Context) error{
		"Prepare": s.Prepare,
		"Sweep":   func(ctx context.Context) error { return second(s.Sweep(ctx, base)) },
		"Ping":    s.Ping,
		"InsertMessages": func(ctx context.Context) error {
			return second(s.InsertMessages(ctx, []store.Record{message("m")}))
		},
		"LoadMessages": func(ctx context.Context) error { return second(s.LoadMessages(ctx, []push.MessageID{"m"})) },
		"WriteInbox": func(ctx context.Context) error {
			return second(s.WriteInbox(ctx, []store.InboxEntry{entry("c", 1, "m")}))
		},
		"MoveInbox": func(ctx context.Context) error { return s.MoveInbox(ctx, []store.InboxEntry{entry("c", 1, "m")}) },
		"PlacedAt":  func(ctx context.Context) error { return second(s.PlacedAt(ctx, "m", []push.Channel{"c"})) },
		"ReadInbox": func(ctx context.Context) error {
			return second(s.ReadInbox(ctx, store.InboxQuery{Channel: "c", Now: base}))
		},
		"LastOffsets": func(ctx context.Context) error { return second(s.LastOffsets(ctx, []push.Channel{"c"})) },
		"PutOutbox": func(ctx context.Context) error {
			return s.PutOutbox(ctx, []store.OutboxEntry{{Message: "m", DueAt: base}})
		},
		"ClaimOutbox":   func(ctx context.Context) error { return second(s.ClaimOutbox(ctx, base, base.Add(1), 1)) },
		"ConfirmOutbox": func(ctx context.Context) error { return s.ConfirmOutbox(ctx, []push.MessageID{"m"}) },
		"RetryOutbox": func(ctx context.Context) error {
			return s.RetryOutbox(ctx, []store.OutboxEntry{{Message: "m", DueAt: base}})
		},
		"LoadCursors": func(ctx context.Context) error {
			return second(s.LoadCursors(ctx, []store.UserDevice{{User: "u", Device: "d"}}))
		},
		"AdvanceCursors": func(ctx context.Context) error {
			return s.AdvanceCursors(ctx, []store.Cursor{{User: "u", Device: "d", Channel: "c"}})
		},
		"TouchCursors": func(ctx context.Context) error {
			return s.TouchCursors(ctx, []store.Cursor{{User: "u", Device: "d", Channel: "c"}})
		},
		"QuietDevices": func(ctx context.Context) error { return second(s.QuietDevices(ctx, "u", "d", base)) },
		"ForgetDevices": func(ctx context.Context) error {
			return s.ForgetDevices(ctx, "u", []push.Device{"d"}, base)
		},
		"RemoveCursors": func(ctx context.Context) error { return s.RemoveCursors(ctx, "u", "d", []push.Channel{"c"}) },
		"Places":        func(ctx context.Context) error { return second(s.Places(ctx, "m", []push.Channel{"c"})) },
		"CancelOutbox":  func(ctx context.Context) error { return second(s.CancelOutbox(ctx, "m", base, base)) },
		"LoadOutbox":    func(ctx context.Context) error { return second(s.LoadOutbox(ctx, []push.MessageID{"m"})) },
		"ParkOutbox":    func(ctx context.Context) error { return s.ParkOutbox(ctx, []store.ParkedEntry{{Message: "m"}}) },
		"ListParked":    func(ctx context.Context) error { return second(s.ListParked(ctx, store.ParkedQuery{})) },
		"ReplayParked":  func(ctx context.Context) error { return second(s.ReplayParked(ctx, "m", base)) },
		"DiscardParked": func(ctx context.Context) error { return second(s.DiscardParked(ctx, "m", base)) },
		"LoadUserCursors": func(ctx context.Context) error {
			return second(s.LoadUserCursors(ctx, "u", 1))
		},
		"ListDevices": func(ctx context.Context) error {
			return second(s.ListDevices(ctx, store.DevicesQuery{Channel: "c", Offset: 1}))
		},
		"Spare": func(ctx context.Context) error { return s.Spare(ctx, []store.Spared{spared("u", "d", 1, 2)}) },
		"AddRevocation": func(ctx context.Context) error {
			return s.AddRevocation(ctx, push.Revocation{User: "u", At: base, Until: base.Add(1)}, base, 1)
		},
		"ListRevocations": func(ctx context.Context) error { return second(s.ListRevocations(ctx, base)) },
		"PutSource": func(ctx context.Context) error {
			return s.PutSource(ctx, store.SourceRecord{Name: "a", Definition: []byte("x"), UpdatedAt: base}, 1)
		},
		"ListSources":  func(ctx context.Context) error { return second(s.ListSources(ctx)) },
		"RemoveSource": func(ctx context.Context) error { return second(s.RemoveSource(ctx, "a")) },
		"PutDeliveries": func(ctx context.Context) error {
			return s.PutDeliveries(ctx, []store.Delivery{delivery("d", 0)})
		},
		"ListDeliveries": func(ctx context.Context) error {
			return second(s.ListDeliveries(ctx, store.DeliveriesQuery{Source: "a"}))
		},
		"LoadDelivery":    func(ctx context.Context) error { return second(s.LoadDelivery(ctx, "a", "d")) },
		"JudgeDeliveries": func(ctx context.Context) error { return s.JudgeDeliveries(ctx, []store.Delivery{delivery("d", 0)}) },
		"CountReplay":     func(ctx context.Context) error { return second(s.CountReplay(ctx, "a", "d")) },
		"TrimDeliveries":  func(ctx context.Context) error { return second(s.TrimDeliveries(ctx, "a", 1, 1)) },
		"PutCallbacks": func(ctx context.Context) error {
			return s.PutCallbacks(ctx, []store.Callback{callback("m", 0)})
		},
		"ClaimCallbacks": func(ctx context.Context) error { return second(s.ClaimCallbacks(ctx, base, base.Add(1), 1)) },
		"KeepCallbacks": func(ctx context.Context) error {
			return s.KeepCallbacks(ctx, []store.Callback{{Message: "m", Claim: "c"}})
		},
		"ListCallbacks":   func(ctx context.Context) error { return second(s.ListCallbacks(ctx, store.CallbacksQuery{})) },
		"ReplayCallback":  func(ctx context.Context) error { return second(s.ReplayCallback(ctx, "m", base)) },
		"DiscardCallback": func(ctx context.Context) error { return second(s.DiscardCallback(ctx, "m")) },
		"Term":            func(ctx context.Context) error { return second(s.Term(ctx)) },
		"SwapTerm":        func(ctx context.Context) error { return second(s.SwapTerm(ctx, push.Term{}, push.Term{Number: 1})) },
		"TermLasts":       func(ctx context.Context) error { return second(s.TermLasts(ctx, "m")) },
		"Epoch":           func(ctx context.Context) error { return second(s.Epoch(ctx)) },
		"AnyBacklog":      func(ctx context.Context) error { return second(s.AnyBacklog(ctx)) },
		"Backlog":         func(ctx context.Context) error { return second(s.Backlog(ctx, []push.Channel{"c"})) },
		"Ahead": func(ctx context.Context) error {
			return second(s.Ahead(ctx, []store.OutboxEntry{{Message: "m", Channels: []push.Channel{"c"}, Sequence: 2}}))
		},
	}
}

func testTimeOver(t *testing.T, s store.Store) {
	past, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for name, call := range everyCall(s) {
		for when, ctx := range map[string]context.Context{"canceled": over(t), "past its deadline": past} {
			start := time.Now()
			err := call(ctx)
			if !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, ctx.Err()) {
				t.Errorf("%s with a context that is %s: %v, want an error that is %v and %v", name, when, err, store.ErrUnavailable, ctx.Err())
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("%s with a context that is %s took %v", name, when, took)
			}
		}
	}
}

func testClosed(t *testing.T, s store.Store) {
	check(t, s.Close())
	for name, call := range everyCall(s) {
		if err := call(t.Context()); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s of a closed store: %v, want an error that is %v", name, err, store.ErrUnavailable)
		}
	}
}
