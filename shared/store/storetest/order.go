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

var orderTests = []test{
	{"order/claimed as they were put", testClaimOrdered},
	{"order/each kind has its share", testClaimKinds},
	{"order/a backlog until it is confirmed", testBacklog},
	{"order/what does not wait is no backlog", testBacklogStates},
	{"order/backlog of many", testBacklogMany},
	{"order/who is ahead", testAhead},
	{"order/replay goes to the end", testReplayOrder},
	{"order/odd channels", testOrderOddChannels},
}

// line puts an entry, due at base, for each id into the outbox, all in one call;
// each is for the channels that its name lists, one letter each.
func line(t *testing.T, s store.Store, ids ...push.MessageID) {
	t.Helper()
	var entries []store.OutboxEntry
	for _, id := range ids {
		entries = append(entries, lineEntry(id))
	}
	check(t, s.PutOutbox(t.Context(), entries))
}

func lineEntry(id push.MessageID) store.OutboxEntry {
	e := store.OutboxEntry{Message: id, DueAt: base}
	for _, c := range id {
		if c >= 'a' && c <= 'z' {
			e.Channels = append(e.Channels, push.Channel(c))
		}
	}
	return e
}

// wantBacklog fails the test unless exactly want of channels a to d have a
// backlog.
func wantBacklog(t *testing.T, s store.Store, want string) {
	t.Helper()
	found, err := s.Backlog(t.Context(), []push.Channel{"a", "b", "c", "d"})
	check(t, err)
	got := ""
	for _, c := range []push.Channel{"a", "b", "c", "d"} {
		if found[c] {
			got += string(c)
		}
	}
	if got != want || len(found) != len(want) {
		t.Errorf("channels with a backlog: %v, want %q", found, want)
	}
	anything, err := s.AnyBacklog(t.Context())
	check(t, err)
	if anything != (want != "") {
		t.Errorf("AnyBacklog = %v with a backlog of %q", anything, want)
	}
}

func testClaimOrdered(t *testing.T, s store.Store) {
	line(t, s, "3a", "1ab", "2b")
	check(t, s.PutOutbox(t.Context(), []store.OutboxEntry{
		{Message: "3a", DueAt: base.Add(-time.Hour), Channels: []push.Channel{"d"}}, // there already: nothing of it counts
		{Message: "0a", DueAt: base.Add(-time.Minute), Attempts: 1, Reason: "away", Channels: []push.Channel{"a"}},
		{Message: "later", DueAt: base.Add(time.Second), Channels: []push.Channel{"a"}},
	}))
	got := claim(t, s, base, 2)
	if want := []push.MessageID{"3a", "1ab"}; !slices.Equal(claimedIDs(got), want) {
		t.Fatalf("claimed %v, want %v as they were put, whatever is due longer", claimedIDs(got), want)
	}
	if !reflect.DeepEqual(got[1].Channels, []push.Channel{"a", "b"}) || got[0].Sequence < 1 || got[0].Sequence >= got[1].Sequence {
		t.Errorf("claimed %+v", got)
	}
	rest := claim(t, s, base, 10)
	if want := []push.MessageID{"2b", "0a"}; !slices.Equal(claimedIDs(rest), want) || rest[0].Sequence <= got[1].Sequence || rest[0].Sequence >= rest[1].Sequence {
		t.Errorf("the rest is %+v, want %v by rising sequence", rest, want)
	}
	wantBacklog(t, s, "ab")
	// What is tried again keeps its place, and its channels.
	again := store.OutboxEntry{Message: "1ab", DueAt: base.Add(time.Second), Attempts: 2, Reason: "no"}
	check(t, s.RetryOutbox(t.Context(), []store.OutboxEntry{again}))
	again.Channels, again.Sequence = got[1].Channels, got[1].Sequence
	if r, ok := record(t, s, "1ab"); !ok || !reflect.DeepEqual(r.OutboxEntry, again) {
		t.Errorf("after a retry: %+v, want %+v", r, again)
	}
	after := claim(t, s, base.Add(time.Second), 10)
	if want := []push.MessageID{"1ab", "later"}; !slices.Equal(claimedIDs(after), want) || !reflect.DeepEqual(after[0], again) {
		t.Errorf("after a retry %+v are claimed, want %+v, then later", after, again)
	}
}

func testClaimKinds(t *testing.T, s store.Store) {
	line(t, s, "1a", "2a", "3a")
	check(t, s.PutOutbox(t.Context(), []store.OutboxEntry{
		{Message: "9", DueAt: base}, {Message: "7", DueAt: base.Add(-2 * time.Second)}, {Message: "8", DueAt: base.Add(-time.Second)},
	}))
	for _, want := range [][]push.MessageID{{"1a", "2a", "7", "8"}, {"3a", "9"}, nil} {
		if got := claimedIDs(claim(t, s, base, 2)); !slices.Equal(got, want) {
			t.Errorf("claimed %v, want %v", got, want)
		}
	}
}

func testBacklog(t *testing.T, s store.Store) {
	wantBacklog(t, s, "")
	put(t, s, "scheduled")
	wantBacklog(t, s, "")
	line(t, s, "1ab", "2b")
	wantBacklog(t, s, "ab")
	claim(t, s, base, 10)
	wantBacklog(t, s, "ab")
	check(t, s.ConfirmOutbox(t.Context(), []push.MessageID{"1ab"}))
	wantBacklog(t, s, "b")
	check(t, s.ConfirmOutbox(t.Context(), []push.MessageID{"1ab", "2b", "scheduled"}))
	wantBacklog(t, s, "")
	if found, err := s.Backlog(t.Context(), nil); err != nil || len(found) != 0 {
		t.Errorf("Backlog of nothing = %v, %v", found, err)
	}
	line(t, s, "2b") // its first life is over
	wantBacklog(t, s, "b")
}

func testBacklogStates(t *testing.T, s store.Store) {
	line(t, s, "1a", "2b", "3c")
	park(t, s, "1a", 0)
	wantBacklog(t, s, "bc")
	if !cancel(t, s, "2b") {
		t.Fatal("2b was not cancelled")
	}
	wantBacklog(t, s, "c")
	line(t, s, "1a", "2b") // they stay as they are
	wantBacklog(t, s, "c")
	if done, err := s.ReplayParked(t.Context(), "1a", base); err != nil || !done {
		t.Fatalf("ReplayParked = %v, %v", done, err)
	}
	wantBacklog(t, s, "ac")
	park(t, s, "1a", 0)
	if done, err := s.DiscardParked(t.Context(), "1a", base); err != nil || !done {
		t.Fatalf("DiscardParked = %v, %v", done, err)
	}
	wantBacklog(t, s, "c")
	if _, err := s.Sweep(t.Context(), base.Add(48*time.Hour)); err != nil {
		t.Fatal(err)
	}
	wantBacklog(t, s, "c")
}

// testBacklogMany has more entries in one channel, and more channels, than a
// page of anything.
func testBacklogMany(t *testing.T, s store.Store) {
	wide := store.OutboxEntry{Message: "wide", DueAt: base}
	ask := []push.Channel{"nobody"}
	for i := range 2500 {
		c := push.Channel(fmt.Sprint("c", i))
		wide.Channels, ask = append(wide.Channels, c), append(ask, c)
	}
	entries := []store.OutboxEntry{}
	for i := range 250 {
		entries = append(entries, store.OutboxEntry{Message: push.MessageID(fmt.Sprint("m", i)), DueAt: base, Channels: []push.Channel{"hot"}})
	}
	check(t, s.PutOutbox(t.Context(), append(entries, wide)))
	found, err := s.Backlog(t.Context(), append(ask, "hot"))
	check(t, err)
	if len(found) != 2501 || !found["hot"] || !found["c0"] || !found["c2499"] || found["nobody"] {
		t.Errorf("%d channels have a backlog, hot %v; want 2501", len(found), found["hot"])
	}
	got, err := s.Ahead(t.Context(), []store.OutboxEntry{{Message: "x", Sequence: 1 << 40, Channels: append(ask, "hot")}})
	check(t, err)
	if len(got) != 2501 || got["hot"].Sequence >= got["c0"].Sequence || got["c0"] != got["c2499"] {
		t.Errorf("ahead of it: %d channels, hot %+v, c0 %+v", len(got), got["hot"], got["c0"])
	}
	check(t, s.ConfirmOutbox(t.Context(), append(claimedIDs(entries), "wide")))
	if found, err = s.Backlog(t.Context(), append(ask, "hot")); err != nil || len(found) != 0 {
		t.Errorf("after all were confirmed %d channels have a backlog, %v", len(found), err)
	}
}

func testAhead(t *testing.T, s store.Store) {
	put(t, s, "plain")
	line(t, s, "1a", "2b", "3ab", "4c", "5a", "6abc")
	entries := make(map[push.MessageID]store.OutboxEntry)
	for _, e := range claim(t, s, base, 10) {
		entries[e.Message] = e
	}
	check(t, s.RetryOutbox(t.Context(), []store.OutboxEntry{{Message: "2b", DueAt: base.Add(time.Minute), Attempts: 1}}))
	tests := []struct {
		of   []push.MessageID
		want map[push.Channel]push.MessageID
	}{
		{nil, nil},
		{[]push.MessageID{"plain"}, nil},
		{[]push.MessageID{"1a"}, nil},
		{[]push.MessageID{"5a"}, map[push.Channel]push.MessageID{"a": "1a"}},
		{[]push.MessageID{"1a", "5a"}, map[push.Channel]push.MessageID{"a": "3ab"}},
		{[]push.MessageID{"6abc", "1a", "plain"}, map[push.Channel]push.MessageID{"a": "3ab", "b": "2b", "c": "4c"}},
		{[]push.MessageID{"1a", "2b", "3ab", "4c", "5a", "6abc"}, nil},
		{[]push.MessageID{"1a", "3ab", "4c", "5a", "6abc"}, map[push.Channel]push.MessageID{"b": "2b"}},
		{[]push.MessageID{"2b", "4c"}, nil},
	}
	for _, tt := range tests {
		var asked []store.OutboxEntry
		for _, id := range tt.of {
			asked = append(asked, entries[id])
		}
		got, err := s.Ahead(t.Context(), asked)
		check(t, err)
		want := make(map[push.Channel]store.Ahead)
		for c, id := range tt.want {
			want[c] = store.Ahead{Sequence: entries[id].Sequence, DueAt: base}
			if id == "2b" {
				want[c] = store.Ahead{Sequence: entries[id].Sequence, DueAt: base.Add(time.Minute)}
			}
		}
		// What is ahead of none in its channel may be told or not.
		for c, a := range got {
			if _, ok := want[c]; !ok && !behind(asked, c, a.Sequence) {
				delete(got, c)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("ahead of %v are %+v, want %+v", tt.of, got, want)
		}
	}
}

// behind reports whether an entry of channel c has a larger sequence.
func behind(entries []store.OutboxEntry, c push.Channel, sequence int64) bool {
	return slices.ContainsFunc(entries, func(e store.OutboxEntry) bool {
		return e.Sequence > sequence && slices.Contains(e.Channels, c)
	})
}

func testReplayOrder(t *testing.T, s store.Store) {
	line(t, s, "1a", "2a", "3a")
	put(t, s, "plain")
	park(t, s, "1a", 0)
	park(t, s, "plain", 0)
	for _, id := range []push.MessageID{"1a", "plain"} {
		if done, err := s.ReplayParked(t.Context(), id, base); err != nil || !done {
			t.Fatalf("ReplayParked(%s) = %v, %v", id, done, err)
		}
	}
	line(t, s, "4a")
	got := claim(t, s, base, 10)
	if want := []push.MessageID{"2a", "3a", "1a", "4a", "plain"}; !slices.Equal(claimedIDs(got), want) {
		t.Fatalf("claimed %v, want %v", claimedIDs(got), want)
	}
	if got[4].Sequence != 0 || got[4].Channels != nil {
		t.Errorf("a plain entry became %+v", got[4])
	}
}

func testOrderOddChannels(t *testing.T, s store.Store) {
	var entries []store.OutboxEntry
	var ask []push.Channel
	for i, name := range oddNames {
		entries = append(entries, store.OutboxEntry{Message: push.MessageID(name), DueAt: base, Channels: []push.Channel{push.Channel(name), "#42"}})
		ask = append(ask, push.Channel(name))
		if i%2 == 1 {
			continue
		}
		check(t, s.PutOutbox(t.Context(), entries[i:i+1]))
	}
	found, err := s.Backlog(t.Context(), ask)
	check(t, err)
	for i, c := range ask {
		if found[c] != (i%2 == 0) {
			t.Errorf("channel %q has a backlog: %v", c, found[c])
		}
	}
}

// racePut has everybody put one entry after another: each one's sequences rise,
// no two are the same, and what was put is a backlog for all at once.
func racePut(t *testing.T, stores []store.Store) {
	const puts = 6
	var mu sync.Mutex
	all := make(map[int64]push.MessageID)
	together(racers, func(i int) {
		s := each(stores, i)
		last := int64(0)
		for n := range puts {
			c := push.Channel(fmt.Sprintf("c%d-%d", i, n))
			id := push.MessageID(fmt.Sprintf("m%d-%d", i, n))
			if err := s.PutOutbox(t.Context(), []store.OutboxEntry{{Message: id, DueAt: base, Channels: []push.Channel{c}}}); err != nil {
				t.Error(err)
				return
			}
			other := each(stores, i+1)
			found, err := other.Backlog(t.Context(), []push.Channel{c})
			if err != nil || !found[c] {
				t.Errorf("%s was put, but its channel has no backlog, %v", id, err)
			}
			records, err := other.LoadOutbox(t.Context(), []push.MessageID{id})
			sequence := records[id].Sequence
			if err != nil || sequence <= last {
				t.Errorf("%s has sequence %d, not above %d, %v", id, sequence, last, err)
			}
			last = sequence
			mu.Lock()
			if twin, twice := all[sequence]; twice {
				t.Errorf("%s and %s have the sequence %d", id, twin, sequence)
			}
			all[sequence] = id
			mu.Unlock()
		}
	})
}
