package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

var deviceTests = []test{
	{"cursors/of all devices", testUserCursors},
	{"cursors/keep their start", testCursorStart},
	{"cursors/devices of an entry", testListDevices},
	{"cursors/devices page by page", testDevicePages},
	{"cursors/spared", testSpared},
	{"cursors/spared again", testSparedTwice},
	{"cursors/sweep what was spared", testSweepSpared},
}

func cursorAt(user push.UserID, device push.Device, channel push.Channel, received push.Offset) store.Cursor {
	return store.Cursor{User: user, Device: device, Channel: channel, Received: received, UpdatedAt: base}
}

// spared returns what device was spared of channel c, of entries that expire at
// base.
func spared(user push.UserID, device push.Device, first, last push.Offset) store.Spared {
	return store.Spared{User: user, Device: device, Channel: "c", Omission: store.Omission{First: first, Last: last, ExpiresAt: base}}
}

// devices returns "user/device" of what a query returns, with a star behind
// those that were spared.
func devices(t *testing.T, s store.Store, q store.DevicesQuery) []string {
	t.Helper()
	list, err := s.ListDevices(t.Context(), q)
	check(t, err)
	var names []string
	for _, d := range list {
		name := fmt.Sprintf("%s/%s", d.User, d.Device)
		if d.Spared {
			name += "*"
		}
		names = append(names, name)
	}
	return names
}

func testUserCursors(t *testing.T, s store.Store) {
	want := []store.Cursor{
		cursorAt("42", "phone", "#42", 3), cursorAt("42", "phone", "all", 0), cursorAt("42", "tablet", "#42", 5),
	}
	check(t, s.AdvanceCursors(t.Context(), []store.Cursor{
		want[2], cursorAt("421", "phone", "#421", 1), want[1], cursorAt("4", "phone", "#4", 1), want[0],
	}))
	for limit, n := range map[int]int{0: 0, 1: 1, 2: 2, 3: 3, 100: 3} {
		got, err := s.LoadUserCursors(t.Context(), "42", limit)
		check(t, err)
		if !slices.Equal(got, want[:n]) {
			t.Errorf("LoadUserCursors(42, %d) = %+v, want %+v", limit, got, want[:n])
		}
	}
	if got, err := s.LoadUserCursors(t.Context(), "nobody", 10); err != nil || len(got) != 0 {
		t.Errorf("LoadUserCursors(nobody) = %v, %v", got, err)
	}
}

func testCursorStart(t *testing.T, s store.Store) {
	c := cursorAt("u", "d", "c", 7)
	c.Start = 5
	for _, start := range []push.Offset{5, 9, 0} {
		c.Start = start
		check(t, s.AdvanceCursors(t.Context(), []store.Cursor{c}))
	}
	c.Start = 5
	if got := cursors(t, s, "u", "d"); got["c"] != c {
		t.Errorf("the cursor became %+v, want the start that it was made with: %+v", got["c"], c)
	}
	check(t, s.RemoveCursors(t.Context(), "u", "d", []push.Channel{"c"}))
	c.Start = 9
	check(t, s.AdvanceCursors(t.Context(), []store.Cursor{c}))
	if got := cursors(t, s, "u", "d"); got["c"] != c {
		t.Errorf("made anew the cursor is %+v, want %+v", got["c"], c)
	}
}

func testListDevices(t *testing.T, s store.Store) {
	behind, passed, late := cursorAt("1", "behind", "c", 5), cursorAt("1", "passed", "c", 15), cursorAt("2", "late", "c", 20)
	late.Start = 10
	early := cursorAt("3", "early", "c", 9)
	early.Start, early.Acknowledged = 9, 4
	check(t, s.AdvanceCursors(t.Context(), []store.Cursor{
		passed, behind, late, early, cursorAt("1", "elsewhere", "cc", 15), cursorAt("1", "d", "b", 15),
	}))
	got, err := s.ListDevices(t.Context(), store.DevicesQuery{Channel: "c", Offset: 10})
	check(t, err)
	want := []store.DeviceState{{Cursor: behind}, {Cursor: passed}, {Cursor: early}}
	if !slices.Equal(got, want) {
		t.Errorf("devices of the entry at 10 are\n%+v, want\n%+v", got, want)
	}
	if got := devices(t, s, store.DevicesQuery{Channel: "c", Offset: 11}); len(got) != 4 {
		t.Errorf("devices of the entry at 11 are %v, want the one that began at 10 too", got)
	}
	if got := devices(t, s, store.DevicesQuery{Channel: "nowhere", Offset: 1}); got != nil {
		t.Errorf("a channel without devices has %v", got)
	}
}

func testDevicePages(t *testing.T, s store.Store) {
	var all []store.Cursor
	for _, user := range []push.UserID{"1", "10", "2", "ключ", "a", "B"} {
		for _, device := range []push.Device{"a", "b", "-"} {
			all = append(all, cursorAt(user, device, "c", 1))
		}
	}
	check(t, s.AdvanceCursors(t.Context(), all))
	slices.SortFunc(all, func(a, b store.Cursor) int {
		if a.User != b.User {
			return slices.Compare([]byte(a.User), []byte(b.User))
		}
		return slices.Compare([]byte(a.Device), []byte(b.Device))
	})
	var want []string
	for _, c := range all {
		want = append(want, fmt.Sprintf("%s/%s", c.User, c.Device))
	}
	for _, size := range []int{1, 2, 5, 18, 0} {
		q := store.DevicesQuery{Channel: "c", Offset: 1, Limit: size}
		var got []string
		for range len(all) + 1 {
			page, err := s.ListDevices(t.Context(), q)
			check(t, err)
			if len(page) == 0 {
				break
			}
			for _, d := range page {
				got = append(got, fmt.Sprintf("%s/%s", d.User, d.Device))
			}
			last := page[len(page)-1]
			q.AfterUser, q.AfterDevice = last.User, last.Device
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %v, want %v", size, got, want)
		}
	}
}

func testSpared(t *testing.T, s store.Store) {
	check(t, s.AdvanceCursors(t.Context(), []store.Cursor{
		cursorAt("1", "a", "c", 50), cursorAt("1", "b", "c", 50), cursorAt("2", "a", "c", 50), cursorAt("1", "a", "d", 50),
	}))
	check(t, s.Spare(t.Context(), []store.Spared{
		spared("1", "a", 10, 12), spared("1", "a", 5, 30), spared("1", "a", 20, 20), spared("2", "a", 20, 25),
	}))
	for offset, want := range map[push.Offset][]string{
		4:  {"1/a", "1/b", "2/a"},
		5:  {"1/a*", "1/b", "2/a"},
		11: {"1/a*", "1/b", "2/a"},
		20: {"1/a*", "1/b", "2/a*"},
		25: {"1/a*", "1/b", "2/a*"},
		30: {"1/a*", "1/b", "2/a"},
		31: {"1/a", "1/b", "2/a"},
	} {
		if got := devices(t, s, store.DevicesQuery{Channel: "c", Offset: offset}); !slices.Equal(got, want) {
			t.Errorf("at %d the devices are %v, want %v (* is spared)", offset, got, want)
		}
	}
	if got := devices(t, s, store.DevicesQuery{Channel: "d", Offset: 11}); !slices.Equal(got, []string{"1/a"}) {
		t.Errorf("in another channel the devices are %v, want none spared", got)
	}
	q := store.DevicesQuery{Channel: "c", Offset: 20, AfterUser: "1", AfterDevice: "a"}
	if got, want := devices(t, s, q), []string{"1/b", "2/a*"}; !slices.Equal(got, want) {
		t.Errorf("behind 1/a the devices are %v, want %v", got, want)
	}
}

func testSparedTwice(t *testing.T, s store.Store) {
	check(t, s.AdvanceCursors(t.Context(), []store.Cursor{cursorAt("1", "a", "c", 50)}))
	again := spared("1", "a", 10, 12)
	check(t, s.Spare(t.Context(), []store.Spared{again}))
	again.ExpiresAt = base.Add(time.Hour)
	check(t, s.Spare(t.Context(), []store.Spared{again, spared("1", "a", 12, 13)}))
	check(t, s.Spare(t.Context(), []store.Spared{spared("1", "a", 10, 12)}))
	n, err := s.Sweep(t.Context(), base.Add(push.RepeatWindow+time.Minute))
	check(t, err)
	if got := devices(t, s, store.DevicesQuery{Channel: "c", Offset: 12}); n != 1 || !slices.Equal(got, []string{"1/a*"}) {
		t.Errorf("%d runs went and the devices are %v, want 1, and 1/a spared for as long as the last to expire is kept", n, got)
	}
}

func testSweepSpared(t *testing.T, s store.Store) {
	check(t, s.AdvanceCursors(t.Context(), []store.Cursor{cursorAt("1", "a", "c", 50)}))
	check(t, s.Spare(t.Context(), []store.Spared{spared("1", "a", 10, 12)}))
	for _, step := range []struct {
		after time.Duration
		want  string
	}{{push.RepeatWindow - time.Millisecond, "1/a*"}, {push.RepeatWindow, "1/a"}} {
		_, err := s.Sweep(t.Context(), base.Add(step.after))
		check(t, err)
		if got := devices(t, s, store.DevicesQuery{Channel: "c", Offset: 11}); !slices.Equal(got, []string{step.want}) {
			t.Errorf("%v after its message expired the devices are %v, want %s", step.after, got, step.want)
		}
	}
}
