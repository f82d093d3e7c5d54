package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

var crowdTests = []test{
	{"crowd/quiet devices", testQuietDevices},
	{"crowd/quiet among very many", testQuietMany},
	{"crowd/forget", testForget},
	{"crowd/forget the rest", testForgetRest},
	{"crowd/odd names", testForgetOdd},
}

// ago returns a cursor that was last updated so long before base.
func ago(user push.UserID, device push.Device, channel push.Channel, d time.Duration) store.Cursor {
	return store.Cursor{User: user, Device: device, Channel: channel, Received: 7, Start: 5, UpdatedAt: base.Add(-d)}
}

func numbered(i int) push.Device { return push.Device(fmt.Sprintf("d%04d", i)) }

// testQuietDevices has 100 devices and five more, one hour apart. Those quiet
// longest come first in the order of their names, too.
func testQuietDevices(t *testing.T, s store.Store) {
	all := []store.Cursor{ago("42", "no-personal", "all", 900*time.Hour), ago("421", "d", "#421", 900*time.Hour), ago("4", "d", "#42", 900*time.Hour)}
	for i := range store.MaxDevices + 5 {
		age := time.Duration(store.MaxDevices+5-i) * time.Hour
		all = append(all, ago("42", numbered(i), "#42", age), ago("42", numbered(i), "all", 0))
	}
	check(t, s.AdvanceCursors(t.Context(), all))
	for _, tt := range []struct {
		name  string
		quiet time.Duration
		want  string
	}{
		{"all of those beyond", 24 * time.Hour, "d0000 d0001 d0002 d0003 d0004"},
		{"the oldest", 105 * time.Hour, "d0000"},
		{"none is quiet so long", 106 * time.Hour, ""},
		{"all are quiet", 0, "d0000 d0001 d0002 d0003 d0004"},
		{"at the same moment", 103 * time.Hour, "d0000 d0001 d0002"},
		{"a moment later", 103*time.Hour + time.Millisecond, "d0000 d0001"},
	} {
		for _, after := range []push.Device{"", "d0002", "zzz"} {
			got, err := s.QuietDevices(t.Context(), "42", after, base.Add(-tt.quiet))
			check(t, err)
			if names(got) != tt.want {
				t.Errorf("%s, behind %q: %q, want %q", tt.name, after, names(got), tt.want)
			}
		}
	}
	check(t, s.ForgetDevices(t.Context(), "42", []push.Device{numbered(0), numbered(1), numbered(2), numbered(3), numbered(50)}, base))
	if got, err := s.QuietDevices(t.Context(), "42", "", base); err != nil || len(got) != 0 {
		t.Errorf("of 100 devices %v are one too many, %v", got, err)
	}
	if got, err := s.QuietDevices(t.Context(), "nobody", "", base); err != nil || len(got) != 0 {
		t.Errorf("a user without devices has %v too many, %v", got, err)
	}
}

func names(devices []push.Device) string {
	var list []string
	for _, d := range devices {
		list = append(list, string(d))
	}
	return strings.Join(list, " ")
}

// testQuietMany asks about a user with more devices than a call looks at.
func testQuietMany(t *testing.T, s store.Store) {
	var all []store.Cursor
	for i := range store.MaxSeen + 30 { // every other one is quiet
		all = append(all, ago("u", numbered(i), "#u", time.Duration(i%2)*48*time.Hour))
	}
	for part := range slices.Chunk(all, 250) { // each within the store's deadline, on a busy machine too
		check(t, s.AdvanceCursors(t.Context(), part))
	}
	for after, first := range map[push.Device]string{"": "d0001", "d0400": "d0001", numbered(store.MaxSeen + 29): "d0001", "d0000": "d0001", "d0010": "d0011"} {
		got, err := s.QuietDevices(t.Context(), "u", after, base.Add(-24*time.Hour))
		check(t, err)
		if len(got) != 20 || string(got[0]) != first {
			t.Errorf("behind %q %v may be forgotten, want 20 from %s on", after, got, first)
		}
	}
}

func testForget(t *testing.T, s store.Store) {
	channels := []push.Channel{"#42", "all", "news"}
	var all []store.Cursor
	want := make(map[push.Device]int)
	add := func(user push.UserID, device push.Device, ages ...time.Duration) {
		for i, age := range ages {
			all = append(all, ago(user, device, channels[i], age))
		}
	}
	const day = 24 * time.Hour
	add("42", "quiet", 3*day, 3*day, 3*day)
	add("42", "quiet-in-person", 3*day, 2*day, 2*day)
	add("42", "just-quiet", 2*day, 3*day, 3*day)
	add("42", "seen", 2*day-time.Millisecond, 3*day, 3*day)
	add("42", "not-asked", 3*day, 3*day, 3*day)
	add("43", "quiet", 3*day, 3*day, 3*day)
	want["seen"], want["not-asked"] = 3, 3
	check(t, s.AdvanceCursors(t.Context(), all))
	for range 2 {
		check(t, s.ForgetDevices(t.Context(), "42", []push.Device{"seen", "quiet", "just-quiet", "quiet-in-person", "nobody"}, base.Add(-2*day)))
		for _, device := range []push.Device{"quiet", "quiet-in-person", "just-quiet", "seen", "not-asked"} {
			if got := cursors(t, s, "42", device); len(got) != want[device] {
				t.Errorf("%s has the cursors %v, want %d", device, got, want[device])
			}
		}
		if got := cursors(t, s, "43", "quiet"); len(got) != 3 {
			t.Errorf("another user's device has the cursors %v, want 3", got)
		}
	}
}

// testForgetRest: where a device has no personal cursor, what is left of it goes,
// but not what was updated since.
func testForgetRest(t *testing.T, s store.Store) {
	quiet := base.Add(-store.DeviceQuiet)
	check(t, s.AdvanceCursors(t.Context(), []store.Cursor{
		ago("42", "phone", "all", store.DeviceQuiet), ago("42", "phone", "news", store.DeviceQuiet/2+time.Millisecond),
		ago("42", "phone", "weather", store.DeviceQuiet/2), ago("42", "phone", "sports", 0),
	}))
	check(t, s.ForgetDevices(t.Context(), "42", []push.Device{"phone"}, quiet))
	if got := slices.Sorted(maps.Keys(cursors(t, s, "42", "phone"))); !slices.Equal(got, []push.Channel{"sports", "weather"}) {
		t.Errorf("what is left is %v, want what was updated since", got)
	}
}

func testForgetOdd(t *testing.T, s store.Store) {
	var all []store.Cursor
	for _, name := range oddNames {
		user := push.UserID(name)
		all = append(all, ago(user, "d", push.Personal(user), 0), ago(user, "d", push.Channel(name), 0))
	}
	check(t, s.AdvanceCursors(t.Context(), all))
	for i, name := range oddNames {
		check(t, s.ForgetDevices(t.Context(), push.UserID(name), []push.Device{"d"}, base))
		for j, other := range oddNames {
			want := 2
			if j <= i {
				want = 0
			}
			if got := cursors(t, s, push.UserID(other), "d"); len(got) != want {
				t.Fatalf("when %q was forgotten %q has %v, want %d", name, other, got, want)
			}
		}
	}
}

// raceForget has devices come back while they are forgotten: each has all that it
// had, or begins anew.
func raceForget(t *testing.T, stores []store.Store) {
	const devices, was, now = 12, 5, 9
	cursor := func(i int, channel push.Channel, at push.Offset, age time.Duration) store.Cursor {
		c := ago("u", numbered(i), channel, age)
		c.Received, c.Start = at, at
		return c
	}
	var all []store.Cursor
	for i := range devices {
		for _, channel := range []push.Channel{"#u", "all", "x", "y"} {
			all = append(all, cursor(i, channel, was, 2*store.DeviceQuiet))
		}
	}
	check(t, stores[0].AdvanceCursors(t.Context(), all))
	comeBack := func(ctx context.Context, s store.Store, i int) error {
		device := []store.UserDevice{{User: "u", Device: numbered(i)}}
		if err := s.TouchCursors(ctx, []store.Cursor{cursor(i, "#u", 0, 0)}); err != nil {
			return err
		}
		list, err := s.LoadCursors(ctx, device)
		if err != nil || slices.ContainsFunc(list, func(c store.Cursor) bool { return c.Channel == "#u" }) {
			return err
		}
		if err := s.ForgetDevices(ctx, "u", []push.Device{numbered(i)}, base.Add(-store.DeviceQuiet)); err != nil {
			return err
		}
		return s.AdvanceCursors(ctx, []store.Cursor{cursor(i, "#u", now, 0), cursor(i, "all", now, 0)})
	}
	together(racers, func(r int) {
		s := each(stores, r)
		for i := range devices {
			var err error
			if (r/2+i)%2 == 0 {
				err = s.ForgetDevices(t.Context(), "u", []push.Device{numbered(i)}, base.Add(-store.DeviceQuiet))
			} else {
				err = comeBack(t.Context(), s, i)
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	for i := range devices {
		got := cursors(t, stores[0], "u", numbered(i))
		want, starts := []push.Channel{"#u", "all", "x", "y"}, push.Offset(was)
		if got["#u"].Start == now {
			want, starts = []push.Channel{"#u", "all"}, now
		}
		if !slices.Equal(slices.Sorted(maps.Keys(got)), want) {
			t.Errorf("%s has the cursors %v, want all or those of a new one", numbered(i), got)
		}
		for _, c := range got {
			if c.Start != starts {
				t.Errorf("%s has a cursor of another time: %v", numbered(i), got)
			}
		}
	}
}
