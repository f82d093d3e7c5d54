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

var parkedTests = []test{
	{"outbox/load", testLoadOutbox},
	{"outbox/cancel what nobody has tried", testCancel},
	{"outbox/a cancelled entry stays", testCancelStays},
	{"parked/taken out of the queue", testPark},
	{"parked/only what waits", testParkWaiting},
	{"parked/list", testListParked},
	{"parked/replay", testReplay},
	{"parked/discard", testDiscard},
	{"parked/sweep", testSweepOutbox},
}

// put puts an entry due at base into the outbox for each id.
func put(t *testing.T, s store.Store, ids ...push.MessageID) {
	t.Helper()
	var entries []store.OutboxEntry
	for _, id := range ids {
		entries = append(entries, store.OutboxEntry{Message: id, DueAt: base})
	}
	check(t, s.PutOutbox(t.Context(), entries))
}

// park parks the entry of id after the given time.
func park(t *testing.T, s store.Store, id push.MessageID, after time.Duration) store.ParkedEntry {
	t.Helper()
	e := store.ParkedEntry{Message: id, Attempts: 12, Reason: "why " + string(id), At: base.Add(after), Until: base.Add(time.Hour)}
	check(t, s.ParkOutbox(t.Context(), []store.ParkedEntry{e}))
	return e
}

func cancel(t *testing.T, s store.Store, id push.MessageID) bool {
	t.Helper()
	done, err := s.CancelOutbox(t.Context(), id, base.Add(time.Second), base.Add(time.Hour))
	check(t, err)
	return done
}

// record returns the outbox record of id.
func record(t *testing.T, s store.Store, id push.MessageID) (store.OutboxRecord, bool) {
	t.Helper()
	found, err := s.LoadOutbox(t.Context(), []push.MessageID{id, "nobody"})
	check(t, err)
	r, ok := found[id]
	return r, ok
}

func testLoadOutbox(t *testing.T, s store.Store) {
	want := store.OutboxEntry{Message: "m", DueAt: base.Add(time.Second), Attempts: 3, Reason: "away"}
	check(t, s.PutOutbox(t.Context(), []store.OutboxEntry{want}))
	got, ok := record(t, s, "m")
	if !ok || !reflect.DeepEqual(got, store.OutboxRecord{OutboxEntry: want}) {
		t.Errorf("LoadOutbox(m) = %+v, %v, want %+v that waits", got, ok, want)
	}
	if got, ok := record(t, s, "gone"); ok {
		t.Errorf("LoadOutbox(gone) = %+v, want nothing", got)
	}
}

func testCancel(t *testing.T, s store.Store) {
	check(t, s.PutOutbox(t.Context(), []store.OutboxEntry{
		{Message: "scheduled", DueAt: base.Add(time.Hour)}, {Message: "due", DueAt: base.Add(time.Second)},
		{Message: "tried", DueAt: base.Add(time.Hour), Attempts: 1}, {Message: "claimed", DueAt: base}, {Message: "retried", DueAt: base},
	}))
	claim(t, s, base, 2) // claimed, retried
	check(t, s.RetryOutbox(t.Context(), []store.OutboxEntry{{Message: "retried", DueAt: base.Add(time.Hour), Attempts: 1}}))
	for id, want := range map[push.MessageID]bool{
		"scheduled": true, "due": true, "tried": false, "claimed": false, "retried": false, "gone": false,
	} {
		for range 2 { // a repeat is answered alike
			if got := cancel(t, s, id); got != want {
				t.Errorf("CancelOutbox(%s) = %v, want %v", id, got, want)
			}
		}
	}
	got := claimedIDs(claim(t, s, base.Add(2*time.Hour), 10))
	slices.Sort(got)
	if want := []push.MessageID{"claimed", "retried", "tried"}; !slices.Equal(got, want) {
		t.Errorf("after cancelling %v are claimed, want %v", got, want)
	}
}

func testCancelStays(t *testing.T, s store.Store) {
	put(t, s, "m")
	cancel(t, s, "m")
	put(t, s, "m")
	check(t, s.RetryOutbox(t.Context(), []store.OutboxEntry{{Message: "m", DueAt: base}}))
	park(t, s, "m", 0)
	if got := claim(t, s, base.Add(time.Hour), 10); len(got) != 0 {
		t.Errorf("a cancelled entry was claimed: %+v", got)
	}
	got, ok := record(t, s, "m")
	if !ok || got.State != store.Cancelled || !got.ChangedAt.Equal(base.Add(time.Second)) || !got.DueAt.IsZero() {
		t.Errorf("the record of a cancelled entry is %+v, %v", got, ok)
	}
	if list, err := s.ListParked(t.Context(), store.ParkedQuery{}); err != nil || len(list) != 0 {
		t.Errorf("parked: %v, %v, want nothing", list, err)
	}
}

func testPark(t *testing.T, s store.Store) {
	put(t, s, "a", "b", "c")
	claim(t, s, base, 1)
	want := []store.ParkedEntry{park(t, s, "a", time.Second), park(t, s, "b", 2*time.Second)}
	if got := claim(t, s, base.Add(time.Hour), 10); !slices.Equal(claimedIDs(got), []push.MessageID{"c"}) {
		t.Errorf("with a and b parked %v are claimed, want c", claimedIDs(got))
	}
	got, err := s.ListParked(t.Context(), store.ParkedQuery{})
	check(t, err)
	if !slices.Equal(got, want) {
		t.Errorf("parked are %+v, want %+v", got, want)
	}
	r, ok := record(t, s, "a")
	if !ok || r.State != store.Parked || r.Attempts != 12 || r.Reason != "why a" || !r.ChangedAt.Equal(base.Add(time.Second)) {
		t.Errorf("the record of a parked entry is %+v, %v", r, ok)
	}
	put(t, s, "a") // it stays parked
	if got := claim(t, s, base.Add(2*time.Hour), 10); len(got) != 1 {
		t.Errorf("after a was put again %v are claimed, want c alone", claimedIDs(got))
	}
}

func testParkWaiting(t *testing.T, s store.Store) {
	put(t, s, "a")
	first := park(t, s, "a", time.Second)
	park(t, s, "a", time.Minute)
	park(t, s, "gone", time.Minute)
	check(t, s.RetryOutbox(t.Context(), []store.OutboxEntry{{Message: "a", DueAt: base}}))
	if cancel(t, s, "a") {
		t.Error("a parked entry was cancelled")
	}
	got, err := s.ListParked(t.Context(), store.ParkedQuery{})
	check(t, err)
	if !slices.Equal(got, []store.ParkedEntry{first}) {
		t.Errorf("parked are %+v, want %+v alone", got, first)
	}
	check(t, s.ConfirmOutbox(t.Context(), []push.MessageID{"a"})) // a claimant that was slow got it through
	if got, err := s.ListParked(t.Context(), store.ParkedQuery{}); err != nil || len(got) != 0 {
		t.Errorf("after a was confirmed %v are parked, %v", got, err)
	}
}

func testListParked(t *testing.T, s store.Store) {
	var want []push.MessageID
	for i, name := range oddNames {
		put(t, s, push.MessageID(name))
		park(t, s, push.MessageID(name), time.Duration(i/3)*time.Millisecond) // three at a time
		want = append(want, push.MessageID(name))
	}
	for from := 0; from < len(want); from += 3 {
		slices.Sort(want[from:min(from+3, len(want))])
	}
	for _, size := range []int{1, 2, 7, 0} {
		q := store.ParkedQuery{Limit: size}
		var got []push.MessageID
		for range len(want) + 1 {
			page, err := s.ListParked(t.Context(), q)
			check(t, err)
			if size > 0 && len(page) > size {
				t.Fatalf("a page of %d holds %d", size, len(page))
			}
			if len(page) == 0 {
				break
			}
			for _, e := range page {
				got = append(got, e.Message)
				q.AfterAt, q.AfterMessage = e.At, e.Message
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d:\n%q, want\n%q", size, got, want)
		}
	}
}

func testReplay(t *testing.T, s store.Store) {
	put(t, s, "a", "b")
	claim(t, s, base, 10)
	park(t, s, "a", 0)
	replay := func(id push.MessageID) bool {
		t.Helper()
		done, err := s.ReplayParked(t.Context(), id, base.Add(time.Second))
		check(t, err)
		return done
	}
	for _, id := range []push.MessageID{"b", "gone"} {
		if replay(id) {
			t.Errorf("%s, which is not parked, was replayed", id)
		}
	}
	if !replay("a") || replay("a") {
		t.Error("a was not replayed, or twice")
	}
	if cancel(t, s, "a") {
		t.Error("a replayed entry was cancelled, though it may have gone out")
	}
	got := claim(t, s, base.Add(time.Second), 10)
	want := store.OutboxEntry{Message: "a", DueAt: base.Add(time.Second), Attempts: 1, Reason: "why a"}
	if !sameEntries(got, []store.OutboxEntry{want}) {
		t.Errorf("after the replay %+v are claimed, want %+v", got, want)
	}
	if list, err := s.ListParked(t.Context(), store.ParkedQuery{}); err != nil || len(list) != 0 {
		t.Errorf("after the replay %v are parked, %v", list, err)
	}
}

func testDiscard(t *testing.T, s store.Store) {
	put(t, s, "a", "b")
	park(t, s, "a", 0)
	for _, step := range []struct {
		id   push.MessageID
		want bool
	}{{"a", true}, {"a", false}, {"b", false}, {"gone", false}} {
		if got, err := s.DiscardParked(t.Context(), step.id, base.Add(time.Minute)); err != nil || got != step.want {
			t.Errorf("DiscardParked(%s) = %v, %v, want %v", step.id, got, err, step.want)
		}
	}
	if r, ok := record(t, s, "a"); !ok || r.State != store.Cancelled || !r.ChangedAt.Equal(base.Add(time.Minute)) {
		t.Errorf("the record of a discarded entry is %+v, %v", r, ok)
	}
	if got := claim(t, s, base.Add(time.Hour), 10); !slices.Equal(claimedIDs(got), []push.MessageID{"b"}) {
		t.Errorf("with a discarded %v are claimed, want b", claimedIDs(got))
	}
}

func testSweepOutbox(t *testing.T, s store.Store) {
	put(t, s, "waits", "parked", "cancelled", "replayed")
	cancel(t, s, "cancelled")
	park(t, s, "parked", 0)
	park(t, s, "replayed", 0)
	if done, err := s.ReplayParked(t.Context(), "replayed", base); err != nil || !done {
		t.Fatalf("ReplayParked = %v, %v", done, err)
	}
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{time.Hour - time.Millisecond, 0}, {time.Hour, 2}, {24 * time.Hour, 0}} {
		n, err := s.Sweep(t.Context(), base.Add(step.after))
		check(t, err)
		if n != step.want {
			t.Errorf("after %v %d records went, want %d", step.after, n, step.want)
		}
	}
	found, err := s.LoadOutbox(t.Context(), []push.MessageID{"waits", "parked", "cancelled", "replayed"})
	check(t, err)
	if len(found) != 2 || found["waits"].State != store.Waiting || found["replayed"].State != store.Waiting {
		t.Errorf("after the sweep there are %s, want what waits", fmt.Sprint(found))
	}
}
