package storetest

import (
	"fmt"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

var roomTests = []test{
	{"cursors/devices are bounded", testDevicesBounded},
	{"cursors/devices that crowd in at once", testDevicesAtOnce},
}

func device(i int) push.Device { return push.Device(fmt.Sprintf("d%03d", i)) }

// crowd gives user "u" as many devices as are kept, each with a cursor in two
// channels, advanced one second after the other from base on.
func crowd(t *testing.T, s store.Store) {
	t.Helper()
	var all []store.Cursor
	for i := range store.MaxDevices {
		for _, channel := range []push.Channel{"#u", "all"} {
			c := cursorAt("u", device(i), channel, 5)
			c.UpdatedAt = base.Add(time.Duration(i) * time.Second)
			all = append(all, c)
		}
	}
	advance(t, s, append(all, cursorAt("u2", "d000", "#u2", 1)))
}

func testDevicesBounded(t *testing.T, s store.Store) {
	crowd(t, s)
	steps := []struct {
		name      string
		device    push.Device
		channel   push.Channel
		at        time.Duration // since base
		want      store.Crowded
		kept      bool
		forgotten push.Device // "" if none is
	}{
		{"none is quiet", "new", "#u", store.DeviceQuiet - time.Second, store.Crowded{Unkept: 1}, false, ""},
		{"another channel of one that is known", device(2), "news", store.DeviceQuiet - time.Second, store.Crowded{}, true, ""},
		{"the first is quiet, and touched", device(0), "#u", store.DeviceQuiet, store.Crowded{}, true, ""},
		{"who found no place has to wait", "new", "#u", store.DeviceQuiet, store.Crowded{Unkept: 1}, false, ""},
		{"the next one is quiet", "new", "#u", store.DeviceQuiet + time.Second, store.Crowded{Forgotten: 1}, true, device(1)},
		{"one of its channels was moved", "newer", "#u", store.DeviceQuiet + 3*time.Second, store.Crowded{Forgotten: 1}, true, device(3)},
		{"who is forgotten comes back as new", device(3), "#u", 2 * store.DeviceQuiet, store.Crowded{Forgotten: 1}, true, device(4)},
		{"who has a place needs none", device(3), "#u", 3 * store.DeviceQuiet, store.Crowded{}, true, ""},
	}
	for _, step := range steps {
		c := cursorAt("u", step.device, step.channel, 9)
		c.UpdatedAt = base.Add(step.at)
		got, err := s.AdvanceCursors(t.Context(), []store.Cursor{c})
		check(t, err)
		if got != step.want {
			t.Errorf("%s: %+v, want %+v", step.name, got, step.want)
		}
		if _, kept := cursors(t, s, "u", step.device)[step.channel]; kept != step.kept {
			t.Errorf("%s: the cursor is kept: %v, want %v", step.name, kept, step.kept)
		}
		if left := cursors(t, s, "u", step.forgotten); len(left) != 0 {
			t.Errorf("%s: %s, which was quiet longest, still has %v", step.name, step.forgotten, left)
		}
		wantDevices(t, s, step.name, store.MaxDevices)
	}
	if len(cursors(t, s, "u2", "d000")) != 1 {
		t.Error("another user's device went")
	}
}

func testDevicesAtOnce(t *testing.T, s store.Store) {
	crowd(t, s)
	at := base.Add(store.DeviceQuiet + time.Second) // two are quiet
	var many []store.Cursor
	for i := range 5 {
		for _, channel := range []push.Channel{"#u", "all"} {
			c := cursorAt("u", push.Device(fmt.Sprint("new", i)), channel, 9)
			c.UpdatedAt = at
			many = append(many, c, c) // and one cursor may come twice
		}
	}
	got, err := s.AdvanceCursors(t.Context(), many)
	check(t, err)
	if want := (store.Crowded{Forgotten: 2, Unkept: 3}); got != want {
		t.Errorf("five at once, with two that are quiet: %+v, want %+v", got, want)
	}
	wantDevices(t, s, "five at once", store.MaxDevices)
	for i := range 5 {
		want := 2
		if i >= 2 {
			want = 0
		}
		if got := cursors(t, s, "u", push.Device(fmt.Sprint("new", i))); len(got) != want {
			t.Errorf("new%d has cursors %v, want %d", i, got, want)
		}
	}
}

// wantDevices fails the test unless user "u" has want devices.
func wantDevices(t *testing.T, s store.Store, name string, want int) {
	t.Helper()
	list, err := s.LoadUserCursors(t.Context(), "u", 10*store.MaxDevices)
	check(t, err)
	devices := make(map[push.Device]bool)
	for _, c := range list {
		devices[c.Device] = true
	}
	if len(devices) != want {
		t.Errorf("%s: the user has %d devices, want %d", name, len(devices), want)
	}
}
