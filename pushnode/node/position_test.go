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

// A client that claims to have what nobody was ever given must not move the
// channel for its neighbours.
func TestFalsePositionHarmsNobody(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	c.send("public:x", `0`)
	ahead := uint64(push.OffsetAt(time.Now().Add(5 * time.Second))) // below the term's ceiling
	evil, good := dial(t, c.nodes[0], ""), dial(t, c.nodes[0], "")
	evil.connect("1", "")
	evil.write(fmt.Sprintf(`{"id":2,"subscribe":{"channel":"public:x","recover":true,"offset":%d}}`, ahead))
	if r := evil.reply(2); r.Subscribe == nil || r.Subscribe.Recovered || r.Subscribe.Offset >= ahead {
		t.Errorf("a false position was answered %+v", r.Subscribe)
	}
	good.connect("2", "")
	good.write(`{"id":2,"subscribe":{"channel":"public:x"}}`)
	good.reply(2)
	c.send("public:x", `1`)
	c.send("public:x", `2`)
	if got := good.receive(2); got != "1 2" {
		t.Errorf("the neighbour received %s, want 1 2", got)
	}
}

// Who leaves a topic while its backlog still comes, and enters it again, gets
// each message once and in order.
func TestResubscribeDuringRecovery(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	filler := strings.Repeat("x", 1000)
	const count = 1200
	for i := range count {
		c.send("public:x", fmt.Sprintf(`"%d %s"`, i, filler))
	}
	a := dial(t, c.nodes[0], "")
	a.connect("1", "")
	a.write(`{"id":2,"subscribe":{"channel":"public:x","recover":true,"offset":1}}` + "\n" + `{"id":3,"unsubscribe":{"channel":"public:x"}}`)
	a.reply(3)
	a.pubs = nil
	a.write(`{"id":4,"subscribe":{"channel":"public:x","recover":true,"offset":1}}`)
	r := a.reply(4)
	pubs := r.Subscribe.Publications
	for len(pubs) < count {
		pubs = append(pubs, a.publication())
	}
	if !ascending(pubs) {
		t.Error("offsets do not ascend")
	}
	for i, p := range pubs {
		if want := fmt.Sprintf(`"%d `, i); !strings.HasPrefix(string(p.Data), want) {
			t.Fatalf("publication %d is %.12s…", i, p.Data)
		}
	}
}

// A pong that comes after the client has left a topic does not bring its cursor
// back.
func TestPongAfterUnsubscribe(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	a := dial(t, c.nodes[0], "device=phone")
	a.mute = true
	a.connect("42", "")
	a.write(`{"id":2,"subscribe":{"channel":"public:x"}}`)
	a.reply(2)
	c.send("public:x", `1`)
	a.publication()
	for { // until the ping
		r, err := a.hear()
		if err != nil {
			t.Fatal(err)
		}
		if isPing(r) {
			break
		}
	}
	a.write(`{"id":3,"unsubscribe":{"channel":"public:x"}}` + "\n{}")
	a.reply(3)
	a.write(`{"id":4,"ping":{}}`)
	a.reply(4) // the pong has been handled
	a.ws.Close()
	c.nodes[0].stop()
	cursors, err := c.store.LoadCursors(t.Context(), []store.UserDevice{{User: "42", Device: "phone"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, cur := range cursors {
		if cur.Channel == "public:x" {
			t.Errorf("the cursor is back: %+v", cur)
		}
	}
}
