package node

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
	"pushcluster/shared/store/sqlitestore"
)

// TestTouchDue: a device that is connected is touched once in each touchEvery,
// however often it is pinged, and connections that began together at other times.
func TestTouchDue(t *testing.T) {
	tests := map[string]struct {
		device push.Device
		every  time.Duration // between pings
		want   int           // touches in ten touchEvery
	}{
		"a quiet device":      {"phone", 25 * time.Second, 10},
		"pings further apart": {"phone", touchEvery - time.Minute, 10},
		"pinged each second":  {"phone", time.Second, 10},
		"no device":           {"", 25 * time.Second, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := &client{device: tt.device, id: uuid.New()}
			got, last := 0, moment(1)
			for now := moment(1); now < moment(10*touchEvery); now = now.after(tt.every) {
				if c.touchDue(now) {
					if now.since(last) > 2*touchEvery {
						t.Errorf("touched %s after the last time", now.since(last))
					}
					got, last = got+1, now
				}
				c.pingFirst = now
			}
			if got < tt.want-1 || got > tt.want+1 {
				t.Errorf("touched %d times, want %d", got, tt.want)
			}
		})
	}
	due := 0
	for range 1000 {
		c := &client{device: "phone", id: uuid.New(), pingFirst: moment(time.Hour)}
		if c.touchDue(moment(time.Hour + touchEvery/10)) {
			due++
		}
	}
	if due < 50 || due > 200 {
		t.Errorf("of 1,000 connections that came together %d are touched in a tenth of the time, want about 100", due)
	}
}

// newStore returns an empty store.
func newStore(t *testing.T) *sqlitestore.Store {
	t.Helper()
	st, err := sqlitestore.Open(filepath.Join(t.TempDir(), "store.db"), sqlitestore.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	if err := st.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return st
}

// TestPingTouches: what a device that is connected follows is touched, though
// nothing comes; what was forgotten is not brought back.
func TestPingTouches(t *testing.T) {
	st := newStore(t)
	n := crowd(t, 1)
	n.metrics = newMetrics(nil, n)
	n.cursors = &cursorWriter{metrics: n.metrics, store: st}
	c := n.clients[0]
	c.user, c.device, c.id, c.codec = "42", "phone", uuid.New(), codecJSON
	begun := time.Now().Add(-store.CursorIdle + time.Hour).UTC().Truncate(time.Millisecond)
	h := hub.New(hub.Config{})
	for _, name := range []push.Channel{"#42", "all", "news", "forgotten", "on its way"} {
		sub := h.Subscribe(name, c)
		sub.Start(7)
		c.subs = append(c.subs, following{sub: sub, told: name != "on its way", proven: 7})
		if name == "forgotten" {
			continue
		}
		if err := st.AdvanceCursors(t.Context(), []store.Cursor{{User: "42", Device: "phone", Channel: name, Received: 7, Start: 3, UpdatedAt: begun}}); err != nil {
			t.Fatal(err)
		}
	}
	touched := func() string {
		n.cursors.flush(t.Context())
		list, err := st.LoadUserCursors(t.Context(), "42", 10)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, cur := range list {
			if cur.Received != 7 || cur.Start != 3 {
				t.Errorf("the cursor became %+v", cur)
			}
			if cur.UpdatedAt.After(begun) {
				names = append(names, string(cur.Channel))
			}
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	at := n.moment(time.Now())
	c.conn.closing = true // nothing is written
	c.ping(at)
	if got := touched(); got != "" {
		t.Errorf("the first ping touched %q, want nothing", got)
	}
	c.ping(at.after(touchEvery))
	if got, want := touched(), "#42 all news"; got != want {
		t.Errorf("a ping %s later touched %q, want %q", touchEvery, got, want)
	}
}

// TestOldestSparesThePersonalCursor: also where the connection ends meanwhile, and
// so uses nothing any more.
func TestOldestSparesThePersonalCursor(t *testing.T) {
	st := newStore(t)
	n := crowd(t, 1)
	n.cursors = &cursorWriter{store: st}
	c := n.clients[0]
	c.user, c.device = "42", "phone"
	known := make(map[push.Channel]store.Cursor)
	for _, name := range []push.Channel{"#42", "all", "news"} {
		known[name] = store.Cursor{User: "42", Device: "phone", Channel: name, Received: 7, UpdatedAt: time.Now()}
		if err := st.AdvanceCursors(t.Context(), []store.Cursor{known[name]}); err != nil {
			t.Fatal(err)
		}
	}
	c.forgetOldest(t.Context(), known, 3)
	left, err := st.LoadUserCursors(t.Context(), "42", 10)
	if err != nil || len(left) != 1 || left[0].Channel != "#42" {
		t.Errorf("left are %+v, %v, want the personal one alone", left, err)
	}
}
