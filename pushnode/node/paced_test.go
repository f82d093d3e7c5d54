package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// What a node that is cut from Redis finds in the inbox it does not give to its
// connections faster than what it catches up on: else it would close them for being
// slow, and while Redis is away they cannot come back.
func TestCutFromRedisIsPaced(t *testing.T) {
	const count = 80 // of which 4 are a page
	c := newCluster(t, node.Config{BeatEvery: 200 * time.Millisecond, InboxSettle: 100 * time.Millisecond}, 1)
	a := dial(t, c.nodes[0], "")
	a.connect("42", "")
	c.send("#42", `"first"`)
	a.receive(1)
	c.redis.Stop()
	var records []store.Record
	var entries []store.InboxEntry
	at := push.OffsetAt(time.Now())
	for i := range count {
		m := c.message(fmt.Sprintf(`"%d %s"`, i, strings.Repeat("x", 64_000)))
		records = append(records, store.Record{Message: m, Fingerprint: "f"})
		entries = append(entries, store.InboxEntry{Channel: "#42", Offset: at + push.Offset(i+1), Message: m.ID, ExpiresAt: m.ExpiresAt})
	}
	if _, err := c.store.InsertMessages(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := c.store.WriteInbox(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	for i := range count {
		if got, want := string(a.publication().Data), fmt.Sprintf(`"%d `, i); !strings.HasPrefix(got, want) {
			t.Fatalf("publication %d is %.12s…", i, got)
		}
	}
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("5 MB came %v after they were written, want 20 pages with 50 ms between them", took)
	}
}
