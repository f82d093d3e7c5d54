package storetest

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

var callbackTests = []test{
	{"callbacks/due ones, the longest due first", testClaimCallbacks},
	{"callbacks/put twice", testPutCallbackTwice},
	{"callbacks/a claim that another took", testCallbackClaimLost},
	{"callbacks/parked, replayed, discarded", testCallbacksParked},
	{"callbacks/pages of what is parked", testCallbackPages},
	{"callbacks/many with odd ids", testCallbacksMany},
	{"callbacks/forgotten", testCallbacksForgotten},
}

// callback returns one that is due at a time from base.
func callback(id push.MessageID, due time.Duration) store.Callback {
	return store.Callback{Message: id, Source: "shop", DueAt: base.Add(due), Until: base.Add(24 * time.Hour)}
}

// claimCallbacks claims for a minute what is due at a time from base.
func claimCallbacks(t *testing.T, s store.Store, at time.Duration, limit int) []store.Callback {
	t.Helper()
	got, err := s.ClaimCallbacks(t.Context(), base.Add(at), base.Add(at+time.Minute), limit)
	check(t, err)
	return got
}

func callbackIDs(list []store.Callback) []push.MessageID {
	var ids []push.MessageID
	for _, c := range list {
		ids = append(ids, c.Message)
	}
	return ids
}

func testClaimCallbacks(t *testing.T, s store.Store) {
	full := callback("b", -time.Second)
	full.Attempts, full.FailingSince, full.Reason, full.Progress = 3, base.Add(-time.Hour), "status 500", []byte("\x00{}")
	check(t, s.PutCallbacks(t.Context(), []store.Callback{callback("later", time.Millisecond), full, callback("a", -time.Minute), callback("c", 0)}))
	check(t, s.PutCallbacks(t.Context(), nil))
	if got := claimCallbacks(t, s, 0, 0); len(got) != 0 {
		t.Errorf("a claim of none took %v", got)
	}
	got := claimCallbacks(t, s, 0, 2)
	if want := []push.MessageID{"a", "b"}; !slices.Equal(callbackIDs(got), want) {
		t.Fatalf("the first two: %v, want %v", callbackIDs(got), want)
	}
	if got[1].Claim == "" {
		t.Error("a claimed one has no claim")
	}
	got[1].Claim = ""
	if !reflect.DeepEqual(got[1], full) {
		t.Errorf("claimed %+v, want %+v", got[1], full)
	}
	if got := claimCallbacks(t, s, 0, 10); !slices.Equal(callbackIDs(got), []push.MessageID{"c"}) {
		t.Errorf("the rest that is due: %v, want c", callbackIDs(got))
	}
	if got := claimCallbacks(t, s, time.Minute-time.Millisecond, 10); !slices.Equal(callbackIDs(got), []push.MessageID{"later"}) {
		t.Errorf("before the claims end: %v, want later", callbackIDs(got))
	}
	if got := claimCallbacks(t, s, time.Minute, 10); !slices.Equal(callbackIDs(got), []push.MessageID{"a", "b", "c"}) {
		t.Errorf("when the claims have ended: %v, want a, b, c", callbackIDs(got))
	}
}

func testPutCallbackTwice(t *testing.T, s store.Store) {
	check(t, s.PutCallbacks(t.Context(), []store.Callback{callback("m", 0)}))
	again := callback("m", -time.Hour)
	again.Source = "another"
	check(t, s.PutCallbacks(t.Context(), []store.Callback{again, callback("n", time.Second)}))
	got := claimCallbacks(t, s, 0, 10)
	if len(got) != 1 || got[0].Source != "shop" || !got[0].DueAt.Equal(base) {
		t.Fatalf("put twice, claimed %+v, want the first as it was", got)
	}
	got[0].State = store.CallbackEnded
	check(t, s.KeepCallbacks(t.Context(), got))
	check(t, s.PutCallbacks(t.Context(), []store.Callback{callback("m", 0)}))
	if got := claimCallbacks(t, s, time.Hour, 10); !slices.Equal(callbackIDs(got), []push.MessageID{"n"}) {
		t.Errorf("after m has ended and was put again: %v, want n alone", callbackIDs(got))
	}
}

func testCallbackClaimLost(t *testing.T, s store.Store) {
	check(t, s.PutCallbacks(t.Context(), []store.Callback{callback("m", 0)}))
	first := claimCallbacks(t, s, 0, 1)
	second := claimCallbacks(t, s, time.Hour, 1)
	if len(first) != 1 || len(second) != 1 {
		t.Fatalf("claimed %v and then %v", first, second)
	}
	first[0].State, first[0].Progress = store.CallbackEnded, []byte("late")
	check(t, s.KeepCallbacks(t.Context(), first))
	second[0].DueAt, second[0].Progress = base.Add(2*time.Hour), []byte("in time")
	check(t, s.KeepCallbacks(t.Context(), second))
	check(t, s.KeepCallbacks(t.Context(), first)) // its claim is over as well
	unclaimed := second[0]
	unclaimed.Claim, unclaimed.State = "", store.CallbackEnded
	check(t, s.KeepCallbacks(t.Context(), []store.Callback{unclaimed}))
	if got := claimCallbacks(t, s, 2*time.Hour, 1); len(got) != 1 || string(got[0].Progress) != "in time" {
		t.Errorf("claimed %+v, want what the second claimant kept", got)
	}
}

func testCallbacksParked(t *testing.T, s store.Store) {
	check(t, s.PutCallbacks(t.Context(), []store.Callback{callback("a", 0), callback("b", 0), callback("c", 0)}))
	got := claimCallbacks(t, s, 0, 2)
	for i := range got {
		got[i].State, got[i].DueAt = store.CallbackParked, base.Add(time.Duration(i)*time.Second)
		got[i].Attempts, got[i].FailingSince, got[i].Reason = 9, base.Add(-time.Hour), "gone"
	}
	check(t, s.KeepCallbacks(t.Context(), got))
	if got := claimCallbacks(t, s, 0, 10); !slices.Equal(callbackIDs(got), []push.MessageID{"c"}) {
		t.Errorf("claimed %v while a and b are parked", callbackIDs(got))
	}
	list, err := s.ListCallbacks(t.Context(), store.CallbacksQuery{})
	check(t, err)
	if !slices.Equal(callbackIDs(list), []push.MessageID{"a", "b"}) || list[1].State != store.CallbackParked ||
		!list[1].DueAt.Equal(base.Add(time.Second)) || list[1].Attempts != 9 || list[1].Reason != "gone" || !list[1].FailingSince.Equal(base.Add(-time.Hour)) {
		t.Errorf("parked are %+v, want a and b", list)
	}
	for _, step := range []struct {
		what string
		call func() (bool, error)
		want bool
	}{
		{"replay of one that waits", func() (bool, error) { return s.ReplayCallback(t.Context(), "c", base) }, false},
		{"discard of one that waits", func() (bool, error) { return s.DiscardCallback(t.Context(), "c") }, false},
		{"replay", func() (bool, error) { return s.ReplayCallback(t.Context(), "a", base.Add(time.Hour)) }, true},
		{"replay again", func() (bool, error) { return s.ReplayCallback(t.Context(), "a", base) }, false},
		{"discard", func() (bool, error) { return s.DiscardCallback(t.Context(), "b") }, true},
		{"discard again", func() (bool, error) { return s.DiscardCallback(t.Context(), "b") }, false},
		{"replay of what is discarded", func() (bool, error) { return s.ReplayCallback(t.Context(), "b", base) }, false},
		{"discard of nothing", func() (bool, error) { return s.DiscardCallback(t.Context(), "x") }, false},
	} {
		if done, err := step.call(); done != step.want || err != nil {
			t.Errorf("%s: %v, %v, want %v", step.what, done, err, step.want)
		}
	}
	again := claimCallbacks(t, s, time.Hour, 10)
	if i := slices.IndexFunc(again, func(c store.Callback) bool { return c.Message == "a" }); i < 0 ||
		again[i].Attempts != 0 || !again[i].FailingSince.IsZero() || !again[i].DueAt.Equal(base.Add(time.Hour)) || slices.Contains(callbackIDs(again), "b") {
		t.Errorf("after a replay of a: %+v", again)
	}
}

func testCallbackPages(t *testing.T, s store.Store) {
	var entries []store.Callback
	var want []push.MessageID
	for i := range 5 {
		c := callback(push.MessageID(fmt.Sprint("m", i)), time.Duration(i/2)*time.Second)
		c.State = store.CallbackParked
		entries, want = append(entries, c), append(want, c.Message)
	}
	check(t, s.PutCallbacks(t.Context(), entries))
	var got []push.MessageID
	q := store.CallbacksQuery{Limit: 2}
	for range 4 {
		page, err := s.ListCallbacks(t.Context(), q)
		check(t, err)
		got = append(got, callbackIDs(page)...)
		if len(page) < 2 {
			break
		}
		q.AfterAt, q.AfterMessage = page[1].DueAt, page[1].Message
	}
	if !slices.Equal(got, want) {
		t.Errorf("in pages of two: %v, want %v", got, want)
	}
}

func testCallbacksMany(t *testing.T, s store.Store) {
	var entries []store.Callback
	for _, name := range oddNames {
		entries = append(entries, callback(push.MessageID(name), 0))
	}
	for i := range 100 {
		entries = append(entries, callback(push.MessageID(fmt.Sprintf("m%03d", i)), 0))
	}
	check(t, s.PutCallbacks(t.Context(), entries))
	got := claimCallbacks(t, s, 0, 1000)
	if len(got) != len(entries) {
		t.Fatalf("claimed %d of %d", len(got), len(entries))
	}
	for i := range got {
		got[i].State = store.CallbackEnded
	}
	check(t, s.KeepCallbacks(t.Context(), got))
	if got := claimCallbacks(t, s, 2*time.Hour, 1000); len(got) != 0 {
		t.Errorf("%v are left after all have ended", callbackIDs(got))
	}
}

func testCallbacksForgotten(t *testing.T, s store.Store) {
	entries := []store.Callback{callback("waits", 0), callback("ended", 0), callback("young", 0)}
	entries[1].State = store.CallbackEnded
	entries[2].Until = base.Add(48 * time.Hour)
	check(t, s.PutCallbacks(t.Context(), entries))
	for _, step := range []struct {
		at   time.Duration
		want int
	}{{24*time.Hour - time.Millisecond, 0}, {24 * time.Hour, 2}, {24 * time.Hour, 0}} {
		if n, err := s.Sweep(t.Context(), base.Add(step.at)); n != step.want || err != nil {
			t.Errorf("a sweep at base+%v took %d, %v, want %d", step.at, n, err, step.want)
		}
	}
	if got := claimCallbacks(t, s, 0, 10); !slices.Equal(callbackIDs(got), []push.MessageID{"young"}) {
		t.Errorf("left are %v, want young", callbackIDs(got))
	}
}

// raceClaimCallbacks has everybody claim and keep at once: each entry is told by
// one.
func raceClaimCallbacks(t *testing.T, stores []store.Store) {
	const n = 30
	var entries []store.Callback
	for i := range n {
		entries = append(entries, callback(push.MessageID(fmt.Sprint("m", i)), 0))
	}
	check(t, stores[0].PutCallbacks(t.Context(), entries))
	var mu sync.Mutex // guards what follows
	taken := make(map[push.MessageID]int)
	deadline := time.Now().Add(2 * time.Minute)
	together(3, func(i int) {
		for time.Now().Before(deadline) {
			s := each(stores, i)
			got, err := s.ClaimCallbacks(t.Context(), base, base.Add(time.Minute), 7)
			if err != nil {
				t.Error(err)
				return
			}
			for k := range got {
				got[k].State = store.CallbackEnded
			}
			if err := s.KeepCallbacks(t.Context(), got); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			for _, c := range got {
				taken[c.Message]++
			}
			all := len(taken) == n
			mu.Unlock()
			if all {
				return
			}
		}
	})
	for id, times := range taken {
		if times != 1 {
			t.Errorf("%s was claimed %d times", id, times)
		}
	}
	if len(taken) != n {
		t.Errorf("%d of %d entries were claimed", len(taken), n)
	}
}
