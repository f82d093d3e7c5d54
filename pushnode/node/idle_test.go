package node_test

import (
	"testing"
	"time"

	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// TestIdleCursorsOfAVisitor: a device that comes now and then, briefly, keeps its
// cursors in channels where nothing happens: else it would begin anew there, and
// miss what came while it was away.
func TestIdleCursorsOfAVisitor(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	before := time.Now().Add(-store.CursorIdle + 24*time.Hour)
	var begun []store.Cursor
	for _, channel := range []push.Channel{"#42", "all", "public:x"} {
		begun = append(begun, store.Cursor{User: "42", Device: "phone", Channel: channel, Received: 1, Start: 1, UpdatedAt: before})
	}
	if err := c.store.AdvanceCursors(t.Context(), begun); err != nil {
		t.Fatal(err)
	}
	visit := func(topic string) *wsClient {
		a := dial(t, c.nodes[0], "device=phone")
		a.connect("42", "")
		a.write(`{"id":2,"subscribe":{"channel":"` + topic + `"}}`)
		a.reply(2)
		return a
	}
	visit("public:x").ws.Close()
	eventually(t, "the cursors are noted to be in use", func() bool {
		list, err := c.store.LoadUserCursors(t.Context(), "42", 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, cur := range list {
			if cur.UpdatedAt.Before(before.Add(time.Hour)) {
				return false
			}
		}
		return len(list) == 3
	})
	if _, err := c.store.Sweep(t.Context(), before.Add(store.CursorIdle+time.Hour)); err != nil {
		t.Fatal(err)
	}
	c.send("public:x", `1`)
	a := visit("public:y")
	a.write(`{"id":3,"subscribe":{"channel":"public:x"}}`)
	r := a.reply(3)
	if got := data(r.Subscribe.Publications); got != "1" {
		t.Errorf("the device got %q of what came while it was away, want 1", got)
	}
}
