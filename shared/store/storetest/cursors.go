package storetest

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

var cursorTests = []test{
	{"cursors/never go back", testCursorMax},
	{"cursors/created at 0", testCursorZero},
	{"cursors/one twice in a call", testCursorTwice},
	{"cursors/of one device", testCursorDevice},
	{"cursors/remove", testCursorRemove},
	{"cursors/many", testCursorMany},
	{"cursors/touch", testCursorTouch},
}

// cursors returns one device's cursors by channel.
func cursors(t *testing.T, s store.Store, user push.UserID, device push.Device) map[push.Channel]store.Cursor {
	t.Helper()
	list, err := s.LoadCursors(t.Context(), []store.UserDevice{{User: user, Device: device}})
	check(t, err)
	byChannel := make(map[push.Channel]store.Cursor)
	for _, c := range list {
		if _, twice := byChannel[c.Channel]; twice || c.User != user || c.Device != device {
			t.Errorf("LoadCursors(%s, %s) returned %+v, which is another's or comes twice", user, device, c)
		}
		byChannel[c.Channel] = c
	}
	return byChannel
}

func testCursorMax(t *testing.T, s store.Store) {
	type position struct {
		received, acknowledged push.Offset
		at                     time.Duration
	}
	steps := []struct {
		name          string
		advance, want position
	}{
		{"new", position{10, 5, 0}, position{10, 5, 0}},
		{"both larger", position{20, 15, time.Second}, position{20, 15, time.Second}},
		{"both smaller", position{19, 14, 2 * time.Second}, position{20, 15, 2 * time.Second}},
		{"only received larger", position{30, 0, 3 * time.Second}, position{30, 15, 3 * time.Second}},
		{"only acknowledged larger", position{0, 25, 4 * time.Second}, position{30, 25, 4 * time.Second}},
		{"an older report", position{1<<53 - 1, 26, time.Second + 300*time.Microsecond}, position{1<<53 - 1, 26, 4 * time.Second}},
		{"zero", position{0, 0, 0}, position{1<<53 - 1, 26, 4 * time.Second}},
	}
	for _, step := range steps {
		c := store.Cursor{User: "42", Device: "phone", Channel: "#42"}
		c.Received, c.Acknowledged, c.UpdatedAt = step.advance.received, step.advance.acknowledged, base.Add(step.advance.at)
		check(t, s.AdvanceCursors(t.Context(), []store.Cursor{c}))
		c.Received, c.Acknowledged, c.UpdatedAt = step.want.received, step.want.acknowledged, base.Add(step.want.at)
		if got := cursors(t, s, "42", "phone"); len(got) != 1 || got["#42"] != c {
			t.Errorf("%s: %+v, want %+v", step.name, got, c)
		}
	}
}

func testCursorZero(t *testing.T, s store.Store) {
	want := store.Cursor{User: "42", Device: "phone", Channel: "all", UpdatedAt: base}
	check(t, s.AdvanceCursors(t.Context(), []store.Cursor{want}))
	if got := cursors(t, s, "42", "phone"); len(got) != 1 || got["all"] != want {
		t.Errorf("a cursor at 0 came back as %+v, want %+v", got, want)
	}
}

func testCursorTwice(t *testing.T, s store.Store) {
	c := func(received, acknowledged push.Offset, at time.Duration) store.Cursor {
		return store.Cursor{User: "u", Device: "d", Channel: "c", Received: received, Acknowledged: acknowledged, UpdatedAt: base.Add(at)}
	}
	check(t, s.AdvanceCursors(t.Context(), []store.Cursor{c(5, 9, 2), c(7, 1, 0), c(6, 3, time.Second)}))
	if got := cursors(t, s, "u", "d"); got["c"] != c(7, 9, time.Second) {
		t.Errorf("of three in one call became %+v, want the largest of each: %+v", got["c"], c(7, 9, time.Second))
	}
}

func testCursorDevice(t *testing.T, s store.Store) {
	type owner struct {
		user   push.UserID
		device push.Device
	}
	var all []store.Cursor
	want := make(map[owner]map[push.Channel]store.Cursor)
	add := func(user push.UserID, device push.Device, channel push.Channel) {
		c := store.Cursor{User: user, Device: device, Channel: channel, Received: push.Offset(len(all) + 1), UpdatedAt: base}
		all = append(all, c)
		o := owner{user, device}
		if want[o] == nil {
			want[o] = make(map[push.Channel]store.Cursor)
		}
		want[o][channel] = c
	}
	for _, name := range oddNames {
		add(push.UserID(name), "d", push.Channel(name))
		add(push.UserID(name), "d", push.Personal(push.UserID(name)))
		add("u", "d", push.Channel(name))
	}
	// These must not run into one another where names are joined.
	for _, o := range []owner{{"a", "b.c"}, {"a.b", "c"}, {"a", "b-c"}, {"a-b", "c"}, {"a_b", "c"}, {"a", "b_c"}, {"a:b", "c"}, {"ab", "c"}, {"a", "bc"}} {
		add(o.user, o.device, "x")
	}
	check(t, s.AdvanceCursors(t.Context(), all))
	for o, w := range want {
		if got := cursors(t, s, o.user, o.device); !maps.Equal(got, w) {
			t.Errorf("LoadCursors(%q, %q) = %v, want %v", o.user, o.device, got, w)
		}
	}
	if got := cursors(t, s, "nobody", "d"); len(got) != 0 {
		t.Errorf("LoadCursors of a user without any = %v", got)
	}
	if list, err := s.LoadCursors(t.Context(), nil); err != nil || len(list) != 0 {
		t.Errorf("LoadCursors of no device = %v, %v", list, err)
	}

	// Several at once, one of them twice: none of the others' that share its user
	// with one and its device with another.
	asked := []store.UserDevice{{User: "a", Device: "b.c"}, {User: "ab", Device: "c"}, {User: "nobody", Device: "bc"}, {User: "ab", Device: "c"}, {User: "u", Device: "d"}}
	for i := range 2500 { // more than go in one question of any home
		asked = append(asked, store.UserDevice{User: push.UserID(fmt.Sprint("none", i)), Device: "b-c"})
	}
	list, err := s.LoadCursors(t.Context(), asked)
	check(t, err)
	wanted := make(map[store.Cursor]int)
	for _, o := range []owner{{"a", "b.c"}, {"ab", "c"}, {"u", "d"}} {
		for _, c := range want[o] {
			wanted[c] = 1
		}
	}
	for _, c := range list {
		wanted[c]--
	}
	for c, n := range wanted {
		if n != 0 {
			t.Errorf("LoadCursors of several devices: %+v came %d times, want %d", c, max(0, 1-n), max(0, n))
		}
	}
}

func testCursorRemove(t *testing.T, s store.Store) {
	var all []store.Cursor
	for _, device := range []push.Device{"phone", "tablet"} {
		for _, channel := range []push.Channel{"#42", "all", "$news.x"} {
			all = append(all, store.Cursor{User: "42", Device: device, Channel: channel, Received: 1, UpdatedAt: base})
		}
	}
	check(t, s.AdvanceCursors(t.Context(), all))
	for range 2 {
		check(t, s.RemoveCursors(t.Context(), "42", "phone", []push.Channel{"$news.x", "#42", "nowhere"}))
		if got := cursors(t, s, "42", "phone"); len(got) != 1 || got["all"].Received != 1 {
			t.Errorf("after removing two of three: %v, want all's", got)
		}
		if got := cursors(t, s, "42", "tablet"); len(got) != 3 {
			t.Errorf("the other device has %d cursors left, want 3", len(got))
		}
	}
	check(t, s.AdvanceCursors(t.Context(), []store.Cursor{{User: "42", Device: "phone", Channel: "#42", UpdatedAt: base}}))
	if got := cursors(t, s, "42", "phone"); got["#42"].Received != 0 {
		t.Errorf("a removed cursor came back at %d, want a new one at 0", got["#42"].Received)
	}
}

func testCursorMany(t *testing.T, s store.Store) {
	var all []store.Cursor
	for i := range 130 {
		all = append(all, store.Cursor{User: "u", Device: "d", Channel: push.Channel(fmt.Sprint("c", i)), Received: push.Offset(i), UpdatedAt: base})
	}
	for range 2 {
		check(t, s.AdvanceCursors(t.Context(), all))
		got := cursors(t, s, "u", "d")
		for i, c := range all {
			if got[c.Channel] != c {
				t.Fatalf("cursor %d came back as %+v, want %+v", i, got[c.Channel], c)
			}
			all[i].Received++
		}
	}
}

func testCursorTouch(t *testing.T, s store.Store) {
	was := store.Cursor{User: "42", Device: "phone", Channel: "#42", Received: 20, Acknowledged: 10, Start: 5, UpdatedAt: base}
	other := was
	other.Device = "tablet"
	check(t, s.AdvanceCursors(t.Context(), []store.Cursor{was, other}))
	for _, step := range []struct {
		name     string
		at, want time.Duration
	}{{"later", time.Hour, time.Hour}, {"earlier", time.Minute, time.Hour}, {"later again", 2*time.Hour + time.Millisecond, 2*time.Hour + time.Millisecond}} {
		touch, missing := store.Cursor{User: "42", Device: "phone", Channel: "#42", Received: 99, Acknowledged: 99, Start: 99}, was
		missing.Channel = "all"
		touch.UpdatedAt, missing.UpdatedAt = base.Add(step.at), base.Add(step.at)
		check(t, s.TouchCursors(t.Context(), []store.Cursor{missing, touch, touch}))
		was.UpdatedAt = base.Add(step.want)
		if got := cursors(t, s, "42", "phone"); len(got) != 1 || got["#42"] != was {
			t.Errorf("touched %s: %+v, want %+v alone", step.name, got, was)
		}
	}
	if got := cursors(t, s, "42", "tablet"); got["#42"] != other {
		t.Errorf("the other device's cursor became %+v, want %+v", got["#42"], other)
	}
	check(t, s.RemoveCursors(t.Context(), "42", "phone", []push.Channel{"#42"}))
	check(t, s.TouchCursors(t.Context(), []store.Cursor{was}))
	if got := cursors(t, s, "42", "phone"); len(got) != 0 {
		t.Errorf("a touch brought back what was removed: %+v", got)
	}
	var many []store.Cursor
	for i, name := range append(oddNames, make([]string, 130)...) {
		if name == "" {
			name = fmt.Sprint("c", i)
		}
		many = append(many, store.Cursor{User: push.UserID(name), Device: "d", Channel: push.Channel(name), UpdatedAt: base})
	}
	check(t, s.AdvanceCursors(t.Context(), many))
	for i := range many {
		many[i].UpdatedAt = base.Add(time.Duration(i+1) * time.Second)
	}
	check(t, s.TouchCursors(t.Context(), many))
	for _, c := range many {
		if got := cursors(t, s, c.User, c.Device); got[c.Channel] != c {
			t.Errorf("of many that were touched one became %+v, want %+v", got[c.Channel], c)
		}
	}
}
