package sqlitestore

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// TestQueryPlans makes every call once, and asks SQLite how it runs each of the
// statements that this took: none may scan a table.
func TestQueryPlans(t *testing.T) {
	s, _ := openPrepared(t, Config{Timeout: 30 * time.Second})
	ctx := t.Context()
	entries := []store.InboxEntry{{Channel: "c", Offset: 1, Message: "m", CollapseKey: "k"}, {Channel: "c", Offset: 1, Message: "n"}}
	second := func(_ any, err error) error { return err }
	for name, err := range map[string]error{
		"InsertMessages":  second(s.InsertMessages(ctx, []store.Record{record("m"), record("m")})),
		"LoadMessages":    second(s.LoadMessages(ctx, []push.MessageID{"m"})),
		"WriteInbox":      second(s.WriteInbox(ctx, entries)),
		"MoveInbox":       s.MoveInbox(ctx, []store.InboxEntry{{Channel: "c", Offset: 2, Message: "m"}}),
		"PlacedAt":        second(s.PlacedAt(ctx, "m", []push.Channel{"c"})),
		"ReadInbox":       second(s.ReadInbox(ctx, store.InboxQuery{Channel: "c", Now: time.Now(), TellOmitted: true})),
		"Places":          second(s.Places(ctx, "m", []push.Channel{"c"})),
		"LastOffsets":     second(s.LastOffsets(ctx, []push.Channel{"c"})),
		"PutOutbox":       s.PutOutbox(ctx, []store.OutboxEntry{{Message: "m"}, {Message: "n", Channels: []push.Channel{"c"}}}),
		"AnyBacklog":      second(s.AnyBacklog(ctx)),
		"Backlog":         second(s.Backlog(ctx, []push.Channel{"c"})),
		"Ahead":           second(s.Ahead(ctx, []store.OutboxEntry{{Message: "o", Channels: []push.Channel{"c"}, Sequence: 9}})),
		"RetryOutbox":     s.RetryOutbox(ctx, []store.OutboxEntry{{Message: "m"}}),
		"ClaimOutbox":     second(s.ClaimOutbox(ctx, time.Now(), time.Now(), 1)),
		"ConfirmOutbox":   s.ConfirmOutbox(ctx, []push.MessageID{"m"}),
		"AdvanceCursors":  s.AdvanceCursors(ctx, []store.Cursor{{User: "u", Device: "d", Channel: "c"}}),
		"TouchCursors":    s.TouchCursors(ctx, []store.Cursor{{User: "u", Device: "d", Channel: "c", UpdatedAt: time.Now()}}),
		"QuietDevices":    second(s.QuietDevices(ctx, "u", "d", time.Now())),
		"ForgetDevices":   s.ForgetDevices(ctx, "u", []push.Device{"d"}, time.Now()),
		"LoadCursors":     second(s.LoadCursors(ctx, []store.UserDevice{{User: "u", Device: "d"}})),
		"RemoveCursors":   s.RemoveCursors(ctx, "u", "d", []push.Channel{"c"}),
		"CancelOutbox":    second(s.CancelOutbox(ctx, "m", time.Now(), time.Now())),
		"LoadOutbox":      second(s.LoadOutbox(ctx, []push.MessageID{"m"})),
		"ParkOutbox":      s.ParkOutbox(ctx, []store.ParkedEntry{{Message: "m"}}),
		"ListParked":      second(s.ListParked(ctx, store.ParkedQuery{})),
		"ReplayParked":    second(s.ReplayParked(ctx, "m", time.Now())),
		"DiscardParked":   second(s.DiscardParked(ctx, "m", time.Now())),
		"UserCursors":     second(s.LoadUserCursors(ctx, "u", 1)),
		"ListDevices":     second(s.ListDevices(ctx, store.DevicesQuery{Channel: "c", Offset: 1})),
		"Spare":           s.Spare(ctx, []store.Spared{{User: "u", Device: "d", Channel: "c"}}),
		"AddRevocation":   s.AddRevocation(ctx, push.Revocation{User: "u"}, time.Now(), 1),
		"Revocations":     second(s.ListRevocations(ctx, time.Now())),
		"PutDeliveries":   s.PutDeliveries(ctx, []store.Delivery{{Source: "a", ID: "d"}, {Source: "a", ID: "d", Settled: true}, {Source: "a", ID: "d"}}),
		"Deliveries":      second(s.ListDeliveries(ctx, store.DeliveriesQuery{Source: "a", Bodies: true})),
		"Newest":          second(s.ListDeliveries(ctx, store.DeliveriesQuery{Source: "a", Newest: true, Outcome: "o"})),
		"LoadDelivery":    second(s.LoadDelivery(ctx, "a", "d")),
		"Judge":           s.JudgeDeliveries(ctx, []store.Delivery{{Source: "a", ID: "d"}}),
		"CountReplay":     second(s.CountReplay(ctx, "a", "d")),
		"Trim":            second(s.TrimDeliveries(ctx, "a", 0, 1)),
		"PutCallbacks":    s.PutCallbacks(ctx, []store.Callback{{Message: "m"}}),
		"ClaimCallbacks":  second(s.ClaimCallbacks(ctx, time.Now(), time.Now(), 1)),
		"KeepCallbacks":   s.KeepCallbacks(ctx, []store.Callback{{Message: "m", Claim: "c"}}),
		"ListCallbacks":   second(s.ListCallbacks(ctx, store.CallbacksQuery{})),
		"ReplayCallback":  second(s.ReplayCallback(ctx, "m", time.Now())),
		"DiscardCallback": second(s.DiscardCallback(ctx, "m")),
		"SwapTerm":        second(s.SwapTerm(ctx, push.Term{}, push.Term{Number: 1})),
		"Term":            second(s.Term(ctx)),
		"Epoch":           second(s.Epoch(ctx)),
		"Sweep":           second(s.Sweep(ctx, time.Now())),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	texts := slices.Collect(maps.Keys(s.stmts))
	bounded, cancel := s.deadline(ctx)
	defer cancel()
	if err := s.writer.do(bounded, 1, func(t *tx) error { texts = slices.AppendSeq(texts, maps.Keys(t.stmts)); return nil }); err != nil {
		t.Fatal(err)
	}
	explained := 0
	for _, text := range texts {
		switch verb, _, _ := strings.Cut(text, " "); verb {
		case "SELECT", "INSERT", "UPDATE", "DELETE":
			explained++
			for _, step := range plan(ctx, t, s, text) {
				// json_each is a list that the caller gave.
				if strings.HasPrefix(step, "SCAN") && !strings.HasPrefix(step, "SCAN json_each") {
					t.Errorf("%s\nscans: %s", text, step)
				}
			}
		}
	}
	if explained < 20 {
		t.Errorf("only %d statements were looked at", explained)
	}
}

var parameter = regexp.MustCompile(`\?\d*`)

func plan(ctx context.Context, t *testing.T, s *Store, text string) (steps []string) {
	t.Helper()
	rows, err := s.reader.QueryContext(ctx, "EXPLAIN QUERY PLAN "+parameter.ReplaceAllString(text, "'1'"))
	if err != nil {
		t.Errorf("explain %s: %v", text, err)
		return nil
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Error(err)
		}
		steps = append(steps, step)
	}
	return steps
}
