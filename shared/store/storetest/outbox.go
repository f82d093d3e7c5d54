package storetest

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

var outboxTests = []test{
	{"outbox/due ones, the longest due first", testClaimDue},
	{"outbox/a claim lasts until its time", testClaimEnds},
	{"outbox/put twice", testPutTwice},
	{"outbox/confirm", testConfirm},
	{"outbox/retry", testRetry},
	{"outbox/many", testOutboxMany},
	{"outbox/odd ids", testOutboxIDs},
}

// claim returns what is claimed at now for a minute.
func claim(t *testing.T, s store.Store, now time.Time, limit int) []store.OutboxEntry {
	t.Helper()
	got, err := s.ClaimOutbox(t.Context(), now, now.Add(time.Minute), limit)
	check(t, err)
	return got
}

// sameEntries reports whether a and b are the same entries in the same order.
func sameEntries(a, b []store.OutboxEntry) bool {
	return slices.EqualFunc(a, b, func(a, b store.OutboxEntry) bool { return reflect.DeepEqual(a, b) })
}

func claimedIDs(entries []store.OutboxEntry) []push.MessageID {
	var ids []push.MessageID
	for _, e := range entries {
		ids = append(ids, e.Message)
	}
	return ids
}

func testClaimDue(t *testing.T, s store.Store) {
	check(t, s.PutOutbox(t.Context(), []store.OutboxEntry{
		{Message: "c", DueAt: base.Add(-1 * time.Second), Attempts: 3, Reason: "no answer"},
		{Message: "later", DueAt: base.Add(time.Millisecond)},
		{Message: "a", DueAt: base.Add(-3*time.Second - 500*time.Microsecond)},
		{Message: "d", DueAt: base},
		{Message: "b", DueAt: base.Add(-2 * time.Second)},
	}))
	if got := claim(t, s, base, 0); len(got) != 0 {
		t.Errorf("a claim of none took %v", got)
	}
	got := claim(t, s, base, 2)
	if want := []push.MessageID{"a", "b"}; !slices.Equal(claimedIDs(got), want) {
		t.Errorf("the first two: %v, want %v", claimedIDs(got), want)
	}
	if want := base.Add(-3*time.Second - time.Millisecond); len(got) > 0 && got[0].DueAt != want {
		t.Errorf("due at %v, want %v in whole milliseconds", got[0].DueAt, want)
	}
	got = claim(t, s, base, 10)
	want := []store.OutboxEntry{{Message: "c", DueAt: base.Add(-1 * time.Second), Attempts: 3, Reason: "no answer"}, {Message: "d", DueAt: base}}
	if !sameEntries(got, want) {
		t.Errorf("the rest that is due: %+v, want %+v", got, want)
	}
	if got := claim(t, s, base, 10); len(got) != 0 {
		t.Errorf("a third claim took %v, want nothing", claimedIDs(got))
	}
}

func testClaimEnds(t *testing.T, s store.Store) {
	check(t, s.PutOutbox(t.Context(), []store.OutboxEntry{{Message: "m", DueAt: base}}))
	for _, step := range []struct {
		at   time.Duration
		want int
	}{{0, 1}, {time.Minute - time.Millisecond, 0}, {time.Minute, 1}, {time.Minute, 0}, {3 * time.Minute, 1}} {
		if got := claim(t, s, base.Add(step.at), 10); len(got) != step.want {
			t.Errorf("at base+%v %d were claimed, want %d", step.at, len(got), step.want)
		}
	}
}

func testPutTwice(t *testing.T, s store.Store) {
	first := store.OutboxEntry{Message: "m", DueAt: base, Attempts: 1, Reason: "first"}
	check(t, s.PutOutbox(t.Context(), []store.OutboxEntry{first}))
	check(t, s.PutOutbox(t.Context(), []store.OutboxEntry{
		{Message: "m", DueAt: base.Add(time.Hour), Attempts: 7, Reason: "second"}, {Message: "n", DueAt: base.Add(time.Second)},
	}))
	if got := claim(t, s, base, 10); !sameEntries(got, []store.OutboxEntry{first}) {
		t.Errorf("put twice, claimed %+v, want the first as it was: %+v", got, first)
	}
	check(t, s.PutOutbox(t.Context(), []store.OutboxEntry{first}))
	if got := claim(t, s, base, 10); len(got) != 0 {
		t.Errorf("putting it again ended its claim: %+v", got)
	}
	if got := claim(t, s, base.Add(time.Second), 10); len(got) != 1 || got[0].Message != "n" {
		t.Errorf("its neighbour in the call: %+v, want n", got)
	}
}

func testConfirm(t *testing.T, s store.Store) {
	check(t, s.PutOutbox(t.Context(), []store.OutboxEntry{
		{Message: "a", DueAt: base}, {Message: "b", DueAt: base}, {Message: "c", DueAt: base},
	}))
	claim(t, s, base, 1)
	for range 2 {
		check(t, s.ConfirmOutbox(t.Context(), []push.MessageID{"a", "missing", "c"}))
	}
	if got := claim(t, s, base.Add(time.Hour), 10); !slices.Equal(claimedIDs(got), []push.MessageID{"b"}) {
		t.Errorf("after confirming a and c: %v, want b", claimedIDs(got))
	}
}

func testRetry(t *testing.T, s store.Store) {
	check(t, s.PutOutbox(t.Context(), []store.OutboxEntry{{Message: "m", DueAt: base}}))
	claim(t, s, base, 10)
	again := store.OutboxEntry{Message: "m", DueAt: base.Add(10 * time.Second), Attempts: 2, Reason: "dispatch: 503"}
	check(t, s.RetryOutbox(t.Context(), []store.OutboxEntry{again, {Message: "gone", DueAt: base, Attempts: 1}}))
	if got := claim(t, s, base.Add(9*time.Second), 10); len(got) != 0 {
		t.Errorf("before it is due again: %+v, want nothing", got)
	}
	// Its claim until base+1m is over, too.
	if got := claim(t, s, base.Add(10*time.Second), 10); !sameEntries(got, []store.OutboxEntry{again}) {
		t.Errorf("when it is due again: %+v, want %+v", got, again)
	}
}

func testOutboxMany(t *testing.T, s store.Store) {
	var entries []store.OutboxEntry
	for i := range 120 {
		entries = append(entries, store.OutboxEntry{Message: push.MessageID(fmt.Sprintf("m%03d", i)), DueAt: base})
	}
	check(t, s.PutOutbox(t.Context(), entries))
	if got := claim(t, s, base, 1000); len(got) != len(entries) {
		t.Fatalf("claimed %d of %d", len(got), len(entries))
	}
	for i := range entries {
		entries[i].Attempts, entries[i].Reason, entries[i].DueAt = 1, "again", base.Add(time.Second)
	}
	check(t, s.RetryOutbox(t.Context(), entries))
	got := claim(t, s, base.Add(time.Second), 1000)
	slices.SortFunc(got, func(a, b store.OutboxEntry) int { return slices.Compare([]byte(a.Message), []byte(b.Message)) })
	if !sameEntries(got, entries) {
		t.Errorf("after a retry %d entries, want the %d that were put: %+v", len(got), len(entries), got)
	}
	check(t, s.ConfirmOutbox(t.Context(), claimedIDs(entries)))
	if got := claim(t, s, base.Add(time.Hour), 1000); len(got) != 0 {
		t.Errorf("after confirming all %d are left", len(got))
	}
}

func testOutboxIDs(t *testing.T, s store.Store) {
	want := make(map[push.MessageID]bool)
	var entries []store.OutboxEntry
	for _, name := range oddNames {
		entries = append(entries, store.OutboxEntry{Message: push.MessageID(name), DueAt: base, Reason: name})
		want[push.MessageID(name)] = true
	}
	check(t, s.PutOutbox(t.Context(), entries))
	got := claim(t, s, base, 1000)
	for _, e := range got {
		if !want[e.Message] || e.Reason != string(e.Message) {
			t.Errorf("claimed %+v, which nobody put", e)
		}
	}
	if len(got) != len(want) {
		t.Errorf("claimed %d, want %d", len(got), len(want))
	}
	check(t, s.ConfirmOutbox(t.Context(), claimedIDs(got)))
	if got := claim(t, s, base.Add(time.Hour), 1000); len(got) != 0 {
		t.Errorf("%v are left after all were confirmed", claimedIDs(got))
	}
}
