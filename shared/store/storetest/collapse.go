package storetest

import (
	"fmt"
	"slices"
	"testing"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

var collapseTests = []test{
	{"collapse/in any order", testCollapseOrders},
	{"collapse/only the same key and channel", testCollapseScope},
	{"collapse/a superseded entry keeps its place", testSupersededPlace},
	{"collapse/a repeat revives nothing", testCollapseRepeat},
	{"collapse/moved entries", testCollapseMove},
}

// testCollapseOrders writes three entries of one key in all orders, in calls
// of their own and in one.
func testCollapseOrders(t *testing.T, s store.Store) {
	insert(t, s, "m10", "m20", "m30")
	for _, order := range [][]push.Offset{{10, 20, 30}, {10, 30, 20}, {20, 10, 30}, {20, 30, 10}, {30, 10, 20}, {30, 20, 10}} {
		apart, once := push.Channel(fmt.Sprint("apart", order)), push.Channel(fmt.Sprint("once", order))
		var all []store.InboxEntry
		for _, offset := range order {
			id := push.MessageID(fmt.Sprint("m", offset))
			write(t, s, keyed(entry(apart, offset, id), "key"))
			all = append(all, keyed(entry(once, offset, id), "key"))
		}
		write(t, s, all...)
		wantOffsets(t, s, apart, 30)
		wantOffsets(t, s, once, 30)
	}
}

func testCollapseScope(t *testing.T, s store.Store) {
	insert(t, s, "m1", "m2", "m3", "m4", "m5")
	write(t, s,
		keyed(entry("c", 1, "m1"), "k1"), keyed(entry("c", 2, "m2"), "k2"), entry("c", 3, "m3"), entry("c", 4, "m4"),
		keyed(entry("d", 1, "m1"), "k1"), keyed(entry("c", 5, "m5"), "k1"))
	wantOffsets(t, s, "c", 2, 3, 4, 5)
	wantOffsets(t, s, "d", 1)
}

func testSupersededPlace(t *testing.T, s store.Store) {
	insert(t, s, "m1", "m2", "m3")
	write(t, s, keyed(entry("c", 20, "m2"), "key"))
	write(t, s, keyed(entry("c", 10, "m1"), "key")) // comes late, is placed all the same
	wantOffsets(t, s, "c", 20)
	got, err := s.WriteInbox(t.Context(), []store.InboxEntry{entry("c", 10, "m3"), entry("c", 30, "m1")})
	check(t, err)
	if !got[0].Taken || got[1] != (store.Placement{Offset: 10}) {
		t.Errorf("placements beside a superseded entry: %+v, want taken and offset 10", got)
	}
	placed, err := s.PlacedAt(t.Context(), "m1", []push.Channel{"c"})
	check(t, err)
	if placed["c"] != 10 {
		t.Errorf("a superseded message is placed at %d, want 10", placed["c"])
	}
	wantOffsets(t, s, "c", 20)
}

func testCollapseRepeat(t *testing.T, s store.Store) {
	insert(t, s, "m1", "m2")
	entries := []store.InboxEntry{keyed(entry("c", 1, "m1"), "key"), keyed(entry("c", 2, "m2"), "key")}
	for range 3 {
		write(t, s, entries...)
		write(t, s, entries[0])
		wantOffsets(t, s, "c", 2)
	}
}

func testCollapseMove(t *testing.T, s store.Store) {
	insert(t, s, "m1", "m2", "m3")
	k := func(offset push.Offset, id push.MessageID) store.InboxEntry {
		return keyed(entry("c", offset, id), "key")
	}
	steps := []struct {
		name string
		move []store.InboxEntry
		want []push.Offset
	}{
		{"the superseded one moves ahead", []store.InboxEntry{k(30, "m1")}, []push.Offset{30}},
		{"both move", []store.InboxEntry{k(40, "m1"), k(41, "m2")}, []push.Offset{41}},
		{"a new one behind", []store.InboxEntry{k(35, "m3")}, []push.Offset{41}},
		{"the last becomes first", []store.InboxEntry{k(50, "m3")}, []push.Offset{50}},
		{"nothing moves", []store.InboxEntry{k(40, "m1"), k(41, "m2")}, []push.Offset{50}},
	}
	write(t, s, k(10, "m1"), k(20, "m2"))
	for _, step := range steps {
		check(t, s.MoveInbox(t.Context(), step.move))
		if got := offsets(t, s, "c"); !slices.Equal(got, step.want) {
			t.Errorf("%s: the channel holds %v, want %v", step.name, got, step.want)
		}
	}
}
