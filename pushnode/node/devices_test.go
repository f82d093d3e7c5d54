package node_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A meddler is a store at which something happens behind some calls.
type meddler struct {
	store.Store
	mu      sync.Mutex // guards what follows
	loaded  func()     // nil: nothing; called once
	touched func()     // the same
	quiet   error      // of QuietDevices
	touch   error      // of TouchCursors
}

// behind has then done behind the next call of a kind, by what f points to.
func (m *meddler) behind(f *func(), then func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*f = then
}

// once takes and calls what f points to.
func (m *meddler) once(f *func()) {
	m.mu.Lock()
	then := *f
	*f = nil
	m.mu.Unlock()
	if then != nil {
		then()
	}
}

func (m *meddler) LoadCursors(ctx context.Context, devices []store.UserDevice) ([]store.Cursor, error) {
	list, err := m.Store.LoadCursors(ctx, devices)
	m.once(&m.loaded)
	return list, err
}

func (m *meddler) TouchCursors(ctx context.Context, cursors []store.Cursor) error {
	if m.touch != nil {
		return m.touch
	}
	err := m.Store.TouchCursors(ctx, cursors)
	m.once(&m.touched)
	return err
}

func (m *meddler) QuietDevices(ctx context.Context, user push.UserID, after push.Device, quiet time.Time) ([]push.Device, error) {
	if m.quiet != nil {
		return nil, m.quiet
	}
	return m.Store.QuietDevices(ctx, user, after, quiet)
}

// see gives user 42 cursors of device in channels, at and from offset 1, that were
// last updated age ago.
func (c *cluster) see(device push.Device, age time.Duration, channels ...push.Channel) {
	c.t.Helper()
	var list []store.Cursor
	for _, channel := range channels {
		list = append(list, store.Cursor{User: "42", Device: device, Channel: channel, Received: 1, Start: 1, UpdatedAt: time.Now().Add(-age)})
	}
	if err := c.store.AdvanceCursors(context.Background(), list); err != nil {
		c.t.Fatal(err)
	}
}

// seen returns how many cursors each device of user 42 has.
func (c *cluster) seen() map[push.Device]int {
	c.t.Helper()
	list, err := c.store.LoadUserCursors(context.Background(), "42", 10_000)
	if err != nil {
		c.t.Fatal(err)
	}
	devices := make(map[push.Device]int)
	for _, cur := range list {
		devices[cur.Device]++
	}
	return devices
}

func numbered(i int) push.Device { return push.Device(fmt.Sprintf("d%03d", i)) }

// TestDevicesAreBounded: a new device takes the place of those that were not seen
// for longest, if they were not for a day. Whoever was forgotten is new.
func TestDevicesAreBounded(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	c.send("#42", `1`)
	for i := range store.MaxDevices + 4 {
		age := 40*time.Hour - time.Duration(i)*time.Minute
		if i == 3 {
			age = store.DeviceQuiet - time.Hour // the fifth longest unseen goes in its place
		}
		c.see(numbered(i), age, "#42", "all", "public:x")
	}
	c.send("public:x", `"missed"`)
	dial(t, c.nodes[0], "device=new").connect("42", "")
	gone := []push.Device{numbered(0), numbered(1), numbered(2), numbered(4), numbered(5)}
	eventually(t, "the oldest are forgotten", func() bool { return len(c.seen()) == store.MaxDevices })
	for device := range c.seen() {
		if slices.Contains(gone, device) {
			t.Errorf("%s is still there", device)
		}
	}
	for device, want := range map[push.Device]string{numbered(0): "1 ", numbered(50): `1 "missed"`} {
		a := dial(t, c.nodes[0], "device="+string(device))
		r := a.connect("42", "")
		a.write(`{"id":2,"subscribe":{"channel":"public:x"}}`)
		got := data(r.Subs["#42"].Publications) + " " + data(a.reply(2).Subscribe.Publications)
		if got != want {
			t.Errorf("%s gets %q, want %q", device, got, want)
		}
	}
}

// TestDevicesSeenToday: nobody is forgotten who was there within a day, nor is
// anybody refused.
func TestDevicesSeenToday(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	for i := range store.MaxDevices + 20 {
		c.see(numbered(i), store.DeviceQuiet-time.Hour-time.Duration(i+1)*time.Minute, "#42", "all")
	}
	c.see("gone", 25*time.Hour, "#42", "all")
	for i := range 3 {
		dial(t, c.nodes[0], fmt.Sprint("device=new", i)).connect("42", "")
	}
	eventually(t, "the one that was away is forgotten", func() bool { return c.seen()["gone"] == 0 })
	if got, want := len(c.seen()), store.MaxDevices+23; got != want {
		t.Errorf("there are %d devices, want %d", got, want)
	}
}

// TestDevicesOnTwoNodes: new devices of one user at once on two nodes.
func TestDevicesOnTwoNodes(t *testing.T) {
	c := newCluster(t, node.Config{}, 2)
	for i := range store.MaxDevices + 20 {
		c.see(numbered(i), 48*time.Hour, "#42", "all", "public:x")
	}
	var all sync.WaitGroup
	for i := range 10 {
		a := dial(t, c.nodes[i%2], fmt.Sprint("device=new", i))
		all.Go(func() { a.connect("42", "") })
	}
	all.Wait()
	eventually(t, "there are as many as are kept", func() bool { return len(c.seen()) == store.MaxDevices })
	for device, cursors := range c.seen() {
		want := 3
		if strings.HasPrefix(string(device), "new") {
			want = 2
		}
		if cursors != want {
			t.Errorf("%s has %d cursors, want %d", device, cursors, want)
		}
	}
	for i := range 10 {
		if c.seen()[push.Device(fmt.Sprint("new", i))] == 0 {
			t.Errorf("new%d is not there", i)
		}
	}
}

// TestForgottenOnArrival: a device that is forgotten in the instant in which it
// comes back has what it had, or is new, in all its channels alike.
func TestForgottenOnArrival(t *testing.T) {
	forget := func(c *cluster) func() {
		return func() {
			err := c.store.ForgetDevices(context.Background(), "42", []push.Device{"phone"}, time.Now().Add(-store.DeviceQuiet))
			if err != nil {
				t.Error(err)
			}
		}
	}
	tests := map[string]struct {
		age  time.Duration
		when func(c *cluster, m *meddler)
		want string // of the personal channel and the topic
	}{
		"not at all":             {48 * time.Hour, func(*cluster, *meddler) {}, "2 2"},
		"before it is looked at": {48 * time.Hour, func(c *cluster, _ *meddler) { forget(c)() }, "1 2 "},
		"once it was looked at":  {48 * time.Hour, func(c *cluster, m *meddler) { m.behind(&m.loaded, forget(c)) }, "1 2 "},
		"once it was touched":    {48 * time.Hour, func(c *cluster, m *meddler) { m.behind(&m.touched, forget(c)) }, "2 2"},
		"it was seen today":      {23 * time.Hour, func(c *cluster, m *meddler) { m.behind(&m.loaded, forget(c)) }, "2 2"},
		"by halves": {48 * time.Hour, func(c *cluster, _ *meddler) {
			if err := c.store.RemoveCursors(context.Background(), "42", "phone", []push.Channel{"#42"}); err != nil {
				t.Error(err)
			}
		}, "1 2 "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, node.Config{}, 0)
			m := &meddler{Store: c.store}
			c.store = m
			c.start(node.Config{})
			for _, channel := range []push.Channel{"#42", "public:x", "all"} {
				at := c.send(channel, `1`)
				if err := c.store.AdvanceCursors(t.Context(), []store.Cursor{{User: "42", Device: "phone", Channel: channel,
					Received: at, Start: 1, UpdatedAt: time.Now().Add(-tt.age)}}); err != nil {
					t.Fatal(err)
				}
				c.send(channel, `2`)
			}
			tt.when(c, m)
			a := dial(t, c.nodes[0], "device=phone")
			r := a.connect("42", "")
			a.write(`{"id":2,"subscribe":{"channel":"public:x"}}`)
			got := data(r.Subs["#42"].Publications) + " " + data(a.reply(2).Subscribe.Publications)
			if got != tt.want {
				t.Errorf("it got %q, want %q", got, tt.want)
			}
			list, err := c.store.LoadCursors(t.Context(), []store.UserDevice{{User: "42", Device: "phone"}})
			if err != nil || len(list) != 3 {
				t.Errorf("the device has %d cursors, %v, want 3", len(list), err)
			}
			for _, cur := range list { // of one time, all of them
				if old := cur.Start == 1; old != (tt.want == "2 2") {
					t.Errorf("a cursor begins at %d: %+v", cur.Start, cur)
				}
			}
		})
	}
}

// TestTrimFails: that nobody can be forgotten now concerns nobody who connects.
func TestTrimFails(t *testing.T) {
	c := newCluster(t, node.Config{}, 0)
	c.store = &meddler{Store: c.store, quiet: errors.New("no")}
	c.start(node.Config{})
	c.see("old", 48*time.Hour, "#42")
	dial(t, c.nodes[0], "device=new").connect("42", "")
	if got := len(c.seen()); got != 2 {
		t.Errorf("there are %d devices, want 2", got)
	}
}

// TestDeviceCannotBeTouched: that no date can be written keeps nobody away who was
// not seen for long.
func TestDeviceCannotBeTouched(t *testing.T) {
	c := newCluster(t, node.Config{}, 0)
	c.store = &meddler{Store: c.store, touch: store.ErrUnavailable}
	c.start(node.Config{})
	at := c.send("#42", `1`)
	c.at("phone", 48*time.Hour, "#42", at)
	c.send("#42", `2`)
	if got := data(dial(t, c.nodes[0], "device=phone").connect("42", "").Subs["#42"].Publications); got != "2" {
		t.Errorf("the device got %q, want 2", got)
	}
}

// TestRecentCursorsCount: a device whose personal cursor is gone, but which was in
// other channels lately, has its places there.
func TestRecentCursorsCount(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	c.send("#42", `1`)
	at := c.send("all", `1`)
	c.at("phone", time.Hour, "all", at)
	c.send("all", `2`)
	subs := dial(t, c.nodes[0], "device=phone").connect("42", "").Subs
	if got, want := data(subs["#42"].Publications)+" "+data(subs["all"].Publications), "1 2"; got != want {
		t.Errorf("the device got %q, want %q", got, want)
	}
}

// at gives user 42 a cursor of device at an offset of channel, that was last
// updated age ago.
func (c *cluster) at(device push.Device, age time.Duration, channel push.Channel, offset push.Offset) {
	c.t.Helper()
	cur := store.Cursor{User: "42", Device: device, Channel: channel, Received: offset, Start: 1, UpdatedAt: time.Now().Add(-age)}
	if err := c.store.AdvanceCursors(context.Background(), []store.Cursor{cur}); err != nil {
		c.t.Fatal(err)
	}
}
