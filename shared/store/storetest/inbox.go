package storetest

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

var inboxTests = []test{
	{"inbox/placements", testPlacements},
	{"inbox/one offset for two messages in one call", testOffsetTwice},
	{"inbox/many entries", testManyEntries},
	{"inbox/odd channels", testOddChannels},
	{"inbox/placed at", testPlacedAt},
	{"inbox/last offsets", testLastOffsets},
	{"inbox/move", testMove},
	{"inbox/move to a taken offset", testMoveTaken},
	{"inbox/entries come with their message", testEntryFields},
	{"inbox/range", testRange},
	{"inbox/pages by entries", testPageEntries},
	{"inbox/pages by bytes", testPageBytes},
	{"inbox/default page", testDefaultPage},
	{"inbox/expiry", testExpiry},
	{"inbox/entries without message", testMessageGone},
}

func testPlacements(t *testing.T, s store.Store) {
	write(t, s, entry("c", 10, "m1"), entry("c", 20, "m2"), entry("d", 10, "m1"), entry("d", 11, "m2"))
	tests := []struct {
		name  string
		entry store.InboxEntry
		want  store.Placement
	}{
		{"the same again", entry("c", 10, "m1"), store.Placement{Offset: 10}},
		{"message there, offset free", entry("c", 30, "m1"), store.Placement{Offset: 10}},
		{"message there, offset another's", entry("c", 20, "m1"), store.Placement{Offset: 10}},
		{"message new, offset another's", entry("c", 20, "m3"), store.Placement{Offset: 20, Taken: true}},
		{"both new", entry("c", 30, "m4"), store.Placement{Offset: 30}},
		{"offset of another channel", entry("e", 10, "m4"), store.Placement{Offset: 10}},
	}
	var all []store.InboxEntry
	for _, tt := range tests {
		all = append(all, tt.entry)
	}
	placements, err := s.WriteInbox(t.Context(), all)
	check(t, err)
	for i, tt := range tests {
		got := placements[i]
		if got.Taken != tt.want.Taken || !got.Taken && got.Offset != tt.want.Offset {
			t.Errorf("%s: WriteInbox(%s %d %s) = %+v, want %+v", tt.name, tt.entry.Channel, tt.entry.Offset, tt.entry.Message, got, tt.want)
		}
	}
	insert(t, s, "m1", "m2", "m3", "m4")
	wantOffsets(t, s, "c", 10, 20, 30)
	wantOffsets(t, s, "d", 10, 11)
	wantOffsets(t, s, "e", 10)
}

func testOffsetTwice(t *testing.T, s store.Store) {
	placements, err := s.WriteInbox(t.Context(), []store.InboxEntry{
		entry("c", 10, "m1"), entry("c", 10, "m2"), entry("c", 11, "m1"), entry("c", 12, "m3"),
	})
	check(t, err)
	if placements[0].Taken == placements[1].Taken && placements[0].Offset == placements[1].Offset {
		t.Errorf("two messages at one offset: placements %+v, want one of them taken", placements[:2])
	}
	if placements[3] != (store.Placement{Offset: 12}) {
		t.Errorf("their neighbour: %+v, want offset 12", placements[3])
	}
	placed, err := s.PlacedAt(t.Context(), "m1", []push.Channel{"c"})
	check(t, err)
	for i, e := range []int{0, 2} {
		if p := placements[e]; !p.Taken && p.Offset != placed["c"] {
			t.Errorf("entry %d of m1 is said to be at %d, but m1 is at %d", i, p.Offset, placed["c"])
		}
	}
}

func testManyEntries(t *testing.T, s store.Store) {
	const n = 240 // more than some servers take in one command
	id := func(i int) push.Channel { return push.Personal(push.UserID(fmt.Sprintf("user%d", i))) }
	var entries []store.InboxEntry
	var channels []push.Channel
	for i := range n {
		entries = append(entries, keyed(entry(id(i), push.Offset(1000+i), "m"), "key"))
		channels = append(channels, id(i))
	}
	some := slices.Clone(entries[n/3 : n/2]) // were there before, at other offsets
	for i := range some {
		some[i].Offset += 5000
	}
	write(t, s, some...)

	placements, err := s.WriteInbox(t.Context(), entries)
	check(t, err)
	placed, err := s.PlacedAt(t.Context(), "m", channels)
	check(t, err)
	for i, e := range entries {
		want := e.Offset
		if i >= n/3 && i < n/2 {
			want += 5000
		}
		if placements[i] != (store.Placement{Offset: want}) || placed[e.Channel] != want {
			t.Fatalf("entry %d: placement %+v, placed at %d, want %d", i, placements[i], placed[e.Channel], want)
		}
		entries[i].Offset += 10_000
	}

	check(t, s.MoveInbox(t.Context(), entries))
	placed, err = s.PlacedAt(t.Context(), "m", channels)
	check(t, err)
	for _, e := range entries {
		if placed[e.Channel] != e.Offset {
			t.Fatalf("after the move %s is at %d, want %d", e.Channel, placed[e.Channel], e.Offset)
		}
	}
}

func testOddChannels(t *testing.T, s store.Store) {
	var entries []store.InboxEntry
	want := make(map[push.Channel]push.Offset)
	for i, name := range oddNames {
		for j, channel := range []push.Channel{push.Channel(name), push.Personal(push.UserID(name))} {
			offset := push.Offset(100*i + j + 1)
			entries = append(entries, keyed(entry(channel, offset, push.MessageID(name)), name))
			want[channel] = offset
		}
		insert(t, s, push.MessageID(name))
	}
	write(t, s, entries...)
	for channel, offset := range want {
		wantOffsets(t, s, channel, offset)
	}
	last, err := s.LastOffsets(t.Context(), slices.Collect(maps.Keys(want)))
	check(t, err)
	if !maps.Equal(last, want) {
		t.Errorf("LastOffsets(%d channels with odd names) = %v, want %v", len(want), last, want)
	}
	placed, err := s.PlacedAt(t.Context(), "$where", slices.Collect(maps.Keys(want)))
	check(t, err)
	if want := map[push.Channel]push.Offset{"$where": want["$where"], "#$where": want["#$where"]}; !maps.Equal(placed, want) {
		t.Errorf("PlacedAt($where) = %v, want %v", placed, want)
	}
}

func testPlacedAt(t *testing.T, s store.Store) {
	write(t, s, entry("c", 10, "m1"), entry("d", 20, "m1"), entry("e", 30, "m1"), entry("d", 21, "m2"))
	got, err := s.PlacedAt(t.Context(), "m1", []push.Channel{"c", "d", "nowhere", "c"})
	check(t, err)
	if want := map[push.Channel]push.Offset{"c": 10, "d": 20}; !maps.Equal(got, want) {
		t.Errorf("PlacedAt(m1; c, d, nowhere, c) = %v, want %v", got, want)
	}
	got, err = s.PlacedAt(t.Context(), "unknown", []push.Channel{"c", "d"})
	check(t, err)
	if len(got) != 0 {
		t.Errorf("PlacedAt(unknown) = %v, want nothing", got)
	}
}

func testLastOffsets(t *testing.T, s store.Store) {
	const largest = 1<<53 - 1
	for i, step := range []struct {
		offset push.Offset
		want   push.Offset
	}{{0, 0}, {500, 500}, {100, 500}, {501, 501}, {largest, largest}} {
		if step.offset != 0 {
			write(t, s, entry("c", step.offset, push.MessageID(fmt.Sprint("m", i))))
		}
		got, err := s.LastOffsets(t.Context(), []push.Channel{"c"})
		check(t, err)
		if got["c"] != step.want || len(got) != min(i, 1) {
			t.Errorf("LastOffsets(c) after writing %d = %v, want %d", step.offset, got, step.want)
		}
	}
	write(t, s, entry("b", 7, "m1"), entry("d", 3, "m1"), entry("d", 9, "m2"))
	channels := []push.Channel{"b", "c", "cc", "d", "b"}
	for i := range 2500 { // more than go in one question of any home
		channels = append(channels, push.Channel(fmt.Sprint("none", i)))
	}
	got, err := s.LastOffsets(t.Context(), channels)
	check(t, err)
	if want := map[push.Channel]push.Offset{"b": 7, "c": largest, "d": 9}; !maps.Equal(got, want) {
		t.Errorf("LastOffsets(b, c, cc, d, b and many without entries) = %v, want %v", got, want)
	}
	if got, err = s.LastOffsets(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("LastOffsets of no channels = %v, %v", got, err)
	}
}

func testMove(t *testing.T, s store.Store) {
	insert(t, s, "m1", "m2", "m3", "m4", "m5")
	write(t, s, entry("c", 10, "m1"), entry("c", 11, "m2"), entry("c", 12, "m3"), entry("d", 10, "m1"))
	move := []store.InboxEntry{
		entry("c", 20, "m1"), // larger: moves
		entry("c", 5, "m2"),  // smaller: stays
		entry("c", 12, "m3"), // the same: stays
		entry("c", 21, "m4"), // not there: is written
	}
	for range 2 { // a repeat changes nothing
		check(t, s.MoveInbox(t.Context(), move))
		placed := make(map[push.MessageID]push.Offset)
		for _, e := range read(t, s, store.InboxQuery{Channel: "c"}) {
			placed[e.Message.ID] = e.Offset
		}
		if want := map[push.MessageID]push.Offset{"m1": 20, "m2": 11, "m3": 12, "m4": 21}; !maps.Equal(placed, want) {
			t.Fatalf("after the move the channel holds %v, want %v", placed, want)
		}
	}
	wantOffsets(t, s, "d", 10)
	at, err := s.PlacedAt(t.Context(), "m1", []push.Channel{"c", "d"})
	check(t, err)
	if want := map[push.Channel]push.Offset{"c": 20, "d": 10}; !maps.Equal(at, want) {
		t.Errorf("PlacedAt(m1) = %v, want %v", at, want)
	}
	write(t, s, entry("c", 10, "m5")) // the old place is free again
}

func testMoveTaken(t *testing.T, s store.Store) {
	insert(t, s, "m1", "m2", "m3")
	write(t, s, entry("c", 10, "m1"), entry("c", 20, "m2"))
	for name, e := range map[string]store.InboxEntry{"an entry": entry("c", 20, "m1"), "a new message": entry("c", 20, "m3")} {
		if err := s.MoveInbox(t.Context(), []store.InboxEntry{e}); err == nil {
			t.Errorf("moving %s to another message's offset succeeded", name)
		}
	}
	wantOffsets(t, s, "c", 10, 20)
}
