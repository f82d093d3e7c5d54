package node_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/centrifugal/protocol"

	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
	"pushcluster/shared/registry/registrytest"
	"pushcluster/shared/store"
)

func TestRecover(t *testing.T) {
	tests := map[string]struct {
		position func(second push.Offset, epoch string) string // after two of four messages
		want     string
		recover  bool
	}{
		"from its position":           {func(o push.Offset, e string) string { return position("#42", uint64(o), e) }, "3 4", true},
		"without epoch":               {func(o push.Offset, _ string) string { return position("#42", uint64(o), "") }, "3 4", true},
		"from the beginning":          {func(_ push.Offset, e string) string { return position("#42", 0, e) }, "1 2 3 4", true},
		"from another life":           {func(o push.Offset, _ string) string { return position("#42", uint64(o), "other") }, "", false},
		"from beyond what exists":     {func(_ push.Offset, e string) string { return position("#42", 1<<52, e) }, "", false},
		"nothing said, and no device": {func(push.Offset, string) string { return "" }, "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, node.Config{}, 1)
			epoch, err := c.store.Epoch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var second, last push.Offset
			for i := range 4 {
				last = c.send("#42", fmt.Sprint(i+1))
				if i == 1 {
					second = last
				}
			}
			sub := dial(t, c.nodes[0], "").connect("42", tt.position(second, epoch)).Subs["#42"]
			if got := data(sub.Publications); got != tt.want || sub.Recovered != tt.recover {
				t.Errorf("recovered %q (%v), want %q (%v)", got, sub.Recovered, tt.want, tt.recover)
			}
			if !tt.recover && sub.Offset != uint64(last) {
				t.Errorf("starts at %d, want %d", sub.Offset, last)
			}
		})
	}
}

func TestDeviceNeedsNoPosition(t *testing.T) {
	c := newCluster(t, node.Config{}, 2)
	c.send("#42", `1`)
	c.send("all", `"before the device was known"`)
	first := dial(t, c.nodes[0], "device=phone")
	result := first.connect("42", "")
	if got := data(result.Subs["#42"].Publications); got != "1" || !result.Subs["#42"].Recovered {
		t.Errorf("a new device recovered %q, want 1", got)
	}
	if got := data(result.Subs["all"].Publications); got != "" {
		t.Errorf("a new device recovered %q of all, want nothing", got)
	}
	c.send("#42", `2`)
	if got := first.receive(1); got != "2" {
		t.Fatalf("received %s, want 2", got)
	}
	// The client answers the ping that follows; its pong moves the cursor.
	answering := make(chan struct{})
	go func() { defer close(answering); first.next() }()
	eventually(t, "the cursor has moved", func() bool {
		return len(dial(t, c.nodes[1], "device=phone").connect("42", "").Subs["#42"].Publications) == 0
	})
	first.ws.Close()
	<-answering
	c.send("#42", `3`)
	c.send("all", `4`)
	result = dial(t, c.nodes[1], "").connect("42", `,"data":{"device":"phone"}`)
	if got := data(result.Subs["#42"].Publications) + " " + data(result.Subs["all"].Publications); got != "3 4" {
		t.Errorf("after a page reload recovered %q, want 3 4", got)
	}
}

func TestLongBacklogComesInPages(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	const count = 900
	filler := strings.Repeat("x", 1000)
	for i := range count {
		c.send("#42", fmt.Sprintf(`{"n":%d,"f":%q}`, i, filler))
	}
	a := dial(t, c.nodes[0], "device=phone")
	pubs := a.connect("42", "").Subs["#42"].Publications
	if len(pubs) == 0 || len(pubs) > 400 {
		t.Fatalf("the reply holds %d publications, want one page", len(pubs))
	}
	for i := range 50 { // some come while it recovers
		c.send("#42", fmt.Sprintf(`{"n":%d}`, count+i))
	}
	for len(pubs) < count+50 {
		pubs = append(pubs, a.publication())
	}
	for i, p := range pubs {
		var d struct{ N int }
		if json.Unmarshal(p.Data, &d); d.N != i {
			t.Fatalf("publication %d is number %d", i, d.N)
		}
	}
	if !ascending(pubs) {
		t.Error("offsets do not ascend")
	}
}

// Not every client takes a message over 1 MiB, and who does not would never get
// it: the reply to each further connect would be as large.
func TestBacklogsOfManyChannelsShareAReply(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	epoch, err := c.store.Epoch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const channels = 40
	token, filler := "42", strings.Repeat("x", 40_000)
	subs := map[string]*protocol.SubscribeRequest{}
	for i := range channels {
		name := fmt.Sprintf("team:%d", i)
		token += " +" + name
		subs[name] = &protocol.SubscribeRequest{Recover: true, Epoch: epoch}
		c.send(push.Channel(name), fmt.Sprintf(`{"n":%d,"f":%q}`, i, filler))
	}
	asked, err := json.Marshal(subs)
	if err != nil {
		t.Fatal(err)
	}
	a := dial(t, c.nodes[0], "")
	a.ws.SetReadLimit(1 << 20)
	var pubs []*protocol.Publication
	for name, sub := range a.connect(token, `,"subs":`+string(asked)).Subs {
		if _, ok := subs[name]; ok && !(sub.Recovered && sub.WasRecovering) {
			t.Errorf("%s: recovered is %v, was_recovering %v; want both", name, sub.Recovered, sub.WasRecovering)
		}
		pubs = append(pubs, sub.Publications...)
	}
	if len(pubs) == 0 || len(pubs) == channels {
		t.Errorf("the reply holds %d of %d publications, want some", len(pubs), channels)
	}
	for len(pubs) < channels {
		pubs = append(pubs, a.publication())
	}
	c.send("team:0", `{"n":40}`)
	seen := map[int]bool{}
	for i, p := range append(pubs, a.publication()) {
		var d struct{ N int }
		if err := json.Unmarshal(p.Data, &d); err != nil {
			t.Fatal(err)
		}
		if seen[d.N] || d.N == channels && i < channels {
			t.Errorf("publication %d is number %d, which came before or is not due yet", i, d.N)
		}
		seen[d.N] = true
	}
}

func TestCollapsedAndExpiredAreNotRecovered(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	for i := range 3 {
		m := c.message(fmt.Sprint(i))
		m.CollapseKey = "score"
		c.sendMessage("#42", m)
	}
	m := c.message(`"late"`)
	m.ExpiresAt = time.Now().Add(-time.Minute)
	c.sendMessage("#42", m)
	c.send("#42", `"kept"`)
	if got := data(dial(t, c.nodes[0], "device=d").connect("42", "").Subs["#42"].Publications); got != `2 "kept"` {
		t.Errorf(`recovered %s, want 2 "kept"`, got)
	}
}

func TestWhatDidNotArriveIsReadFromTheLog(t *testing.T) {
	c := newCluster(t, node.Config{BeatEvery: 300 * time.Millisecond}, 1)
	a := dial(t, c.nodes[0], "")
	a.connect("42", "")
	c.send("#42", `1`)
	c.nodes[0].deaf.Store(true)
	c.send("#42", `2`)
	c.send("#42", `3`)
	c.nodes[0].deaf.Store(false)
	c.send("#42", `4`) // shows the gap
	if got := a.receive(4); got != "1 2 3 4" {
		t.Errorf("received %s, want 1 2 3 4", got)
	}
	c.nodes[0].deaf.Store(true)
	c.send("#42", `5`) // nothing follows that would show it: the beat finds it
	if got := a.receive(1); got != "5" {
		t.Errorf("received %s, want 5", got)
	}
}

func TestRedisFlushedUnderConnections(t *testing.T) {
	c := newCluster(t, node.Config{}, 2)
	a, b := dial(t, c.nodes[0], ""), dial(t, c.nodes[1], "")
	a.connect("42", "")
	b.connect("42", "")
	c.send("#42", `1`)
	c.redis.FlushAll()
	c.send("#42", `2`) // no route is known: only the inbox and the new log have it
	for name, client := range map[string]*wsClient{"node 1": a, "node 2": b} {
		if got := client.receive(2); got != "1 2" {
			t.Errorf("%s: received %s, want 1 2", name, got)
		}
	}
	c.send("#42", `3`)
	if got := a.receive(1) + b.receive(1); got != "33" {
		t.Errorf("after the flush received %s, want 33", got)
	}
}

// A node that Redis cannot be reached from still gives its clients what the
// inbox has, once that has settled.
func TestCutFromRedis(t *testing.T) {
	c := newCluster(t, node.Config{BeatEvery: 200 * time.Millisecond, InboxSettle: 100 * time.Millisecond}, 1)
	a := dial(t, c.nodes[0], "")
	a.connect("42", "")
	c.send("#42", `1`)
	c.redis.Stop()
	m := c.message(`2`)
	ctx := t.Context()
	if _, err := c.store.InsertMessages(ctx, []store.Record{{Message: m, Fingerprint: "f"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.store.WriteInbox(ctx, []store.InboxEntry{
		{Channel: "#42", Offset: push.OffsetAt(time.Now()) + 1, Message: m.ID, ExpiresAt: m.ExpiresAt}}); err != nil {
		t.Fatal(err)
	}
	if got := a.receive(2); got != "1 2" {
		t.Errorf("received %s, want 1 2", got)
	}
	c.redis.Start()
	eventually(t, "the node is ready again", func() bool {
		resp, err := http.Get(c.nodes[0].public.URL + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	c.send("#42", `3`)
	if got := a.receive(1); got != "3" {
		t.Errorf("after Redis came back received %s, want 3", got)
	}
}

// A node is cut off with its Redis, while a replica takes over for the others, which
// reach the store as it does: it finds that its ceiling is raised no more, and gives
// its clients what the inbox has.
func TestCutOffWithItsRedis(t *testing.T) {
	c := newCluster(t, node.Config{BeatEvery: 200 * time.Millisecond, InboxSettle: 100 * time.Millisecond}, 1)
	other := registrytest.Redis(t)
	if c.redis.Mini() != nil || other.Mini() != nil {
		t.Skip("skipped: run ids are redis-server's, which is not installed")
	}
	a := dial(t, c.nodes[0], "")
	a.connect("42", "")
	c.send("#42", `1`)
	c.redis = other
	c.reg = c.registry()
	m := c.message(`2`)
	c.keep("#42", m, c.place("#42", m))
	if got := a.receive(2); got != "1 2" {
		t.Errorf("received %s, want 1 2", got)
	}
}

func TestWhatADeviceIsSparedIsNoted(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	var offsets []push.Offset
	for i := range 2 {
		m := c.message(fmt.Sprint(i))
		m.CollapseKey = "score"
		offsets = append(offsets, c.sendMessage("#42", m))
	}
	a := dial(t, c.nodes[0], "device=phone")
	if got := data(a.connect("42", "").Subs["#42"].Publications); got != "1" {
		t.Fatalf("recovered %s, want 1", got)
	}
	answering := make(chan struct{})
	go func() { defer close(answering); a.next() }()
	state := func(o push.Offset) store.DeviceState {
		devices, err := c.store.ListDevices(t.Context(), store.DevicesQuery{Channel: "#42", Offset: o})
		if err != nil || len(devices) != 1 {
			t.Fatalf("devices of offset %d: %v, %v", o, devices, err)
		}
		return devices[0]
	}
	eventually(t, "the cursor has passed both", func() bool { return state(offsets[1]).Received >= offsets[1] })
	if !state(offsets[0]).Spared || state(offsets[1]).Spared {
		t.Errorf("spared: %v, %v, want the first alone", state(offsets[0]).Spared, state(offsets[1]).Spared)
	}
	a.ws.Close()
	<-answering
}
