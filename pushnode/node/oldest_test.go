package node_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// TestOldestCursors: a device has at most 1,000 cursors. Those that moved longest
// ago go, but none that it uses.
func TestOldestCursors(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	now := time.Now()
	put := func(channel push.Channel, age time.Duration) store.Cursor {
		return store.Cursor{User: "42", Device: "phone", Channel: channel, Received: 1, Start: 1, UpdatedAt: now.Add(-age)}
	}
	cursors := []store.Cursor{put("#42", 72*time.Hour), put("public:used", 24*time.Hour-110*time.Second)}
	for i := range 1100 {
		cursors = append(cursors, put(push.Channel(fmt.Sprintf("public:%04d", i)), 24*time.Hour-time.Duration(i)*time.Second))
	}
	other := put("public:0000", 24*time.Hour)
	other.Device = "laptop"
	for part := range slices.Chunk(append(cursors, other), 200) { // each within the store's deadline, on a busy machine too
		if err := c.store.AdvanceCursors(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	held := func(device push.Device) map[push.Channel]bool {
		t.Helper()
		list, err := c.store.LoadCursors(t.Context(), []store.UserDevice{{User: "42", Device: device}})
		if err != nil {
			t.Fatal(err)
		}
		names := make(map[push.Channel]bool)
		for _, cur := range list {
			names[cur.Channel] = true
		}
		return names
	}
	a := dial(t, c.nodes[0], "device=phone")
	a.connect("42", "")
	if n := len(held("phone")); n != 1000 {
		t.Errorf("the device has %d cursors once it is connected, want 1000", n)
	}
	for i, topic := range append([]string{"used"}, strings.Fields(strings.Repeat("new ", 50))...) {
		if topic == "new" {
			topic = fmt.Sprintf("new%d", i)
		}
		a.write(fmt.Sprintf(`{"id":%d,"subscribe":{"channel":"public:%s"}}`, i+2, topic))
		a.reply(uint32(i + 2))
	}
	names := held("phone")
	for _, used := range []push.Channel{"#42", "all", "public:used", "public:new50", "public:1099"} {
		if !names[used] {
			t.Errorf("the cursor of %s is gone", used)
		}
	}
	if names["public:0151"] || !names["public:0160"] || len(names) != 1000 {
		t.Errorf("the device has %d cursors, 0151 among them: %t, 0160: %t; want 1000, false, true", len(names), names["public:0151"], names["public:0160"])
	}
	if len(held("laptop")) != 1 {
		t.Error("another device has lost its cursor")
	}
}
