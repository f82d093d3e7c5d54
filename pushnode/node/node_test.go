package node_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
)

func TestDeliverToUserTopicAndAll(t *testing.T) {
	c := newCluster(t, node.Config{}, 2)
	a, b := dial(t, c.nodes[0], ""), dial(t, c.nodes[1], "")
	a.connect("42 news", "")
	b.connect("43", "")
	a.write(`{"id":2,"subscribe":{"channel":"news"}}`)
	if r := a.reply(2); r.Subscribe == nil || r.Subscribe.Epoch == "" {
		t.Fatalf("subscribe was answered %+v", r)
	}
	for channel, want := range map[push.Channel]string{"#42": "1", "news": "2", "all": "3"} {
		c.send(channel, want)
		if got := a.receive(1); got != want {
			t.Errorf("user 42 received %s of %s, want %s", got, channel, want)
		}
	}
	if got := b.receive(1); got != "3" {
		t.Errorf("user 43 received %s, want 3", got)
	}
}

func TestPublicationCarriesTheMessage(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	a := dial(t, c.nodes[0], "")
	a.connect("42", "")
	m := c.message(`{"n": 9007199254740993}`)
	m.Trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	offset := c.sendMessage("#42", m)
	p := a.publication()
	if p.Offset != uint64(offset) || p.Tags["id"] != string(m.ID) || p.Tags["event"] != "test" || p.Tags["trace"] != m.Trace {
		t.Errorf("publication %+v does not carry message %+v at %d", p, m, offset)
	}
	if at, err := time.Parse(time.RFC3339, p.Tags["at"]); err != nil || !at.Equal(m.CreatedAt) {
		t.Errorf("tag at = %q, want %s", p.Tags["at"], m.CreatedAt)
	}
	if string(p.Data) != string(m.Data) && string(p.Data) != `{"n":9007199254740993}` {
		t.Errorf("data = %s, want %s", p.Data, m.Data)
	}
}

func TestTokenEndsAndIsRefreshed(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	var a, b *wsClient
	for life := 6 * time.Second; b == nil; life *= 2 {
		end := time.Now().Add(life)
		c.tokens.mu.Lock()
		c.tokens.expires = end
		c.tokens.mu.Unlock()
		a, b = dial(t, c.nodes[0], ""), dial(t, c.nodes[0], "")
		for _, client := range []*wsClient{a, b} {
			if r := client.connect("short-42", ""); !r.Expires || r.Ttl < 1 || r.Ttl > uint32(life/time.Second) {
				t.Errorf("connect says expires %v, ttl %d, want true and at most %s", r.Expires, r.Ttl, life)
			}
		}
		_ = b.ws.WriteMessage(websocket.TextMessage, []byte(`{"id":2,"refresh":{"token":"42"}}`)) // the answer tells
		switch r, err := b.next(); {
		case err != nil && time.Now().After(end):
			b = nil // the machine was so busy that the token had ended before
		case err != nil || r.Refresh == nil || r.Refresh.Expires:
			t.Fatalf("refresh was answered %+v, %v", r, err)
		}
	}
	if got := a.closed(); got != 3005 {
		t.Errorf("closed with %d, want 3005", got)
	}
	c.send("#42", `1`)
	if got := b.receive(1); got != "1" {
		t.Errorf("the refreshed connection received %s, want 1", got)
	}
	b.write(`{"id":3,"refresh":{"token":"43"}}`)
	if got := b.closed(); got != 3500 {
		t.Errorf("a refresh for another user closed with %d, want 3500", got)
	}
}

func TestSilentClientIsClosed(t *testing.T) {
	c := newCluster(t, node.Config{PingInterval: 200 * time.Millisecond, PongTimeout: 300 * time.Millisecond}, 1)
	a := dial(t, c.nodes[0], "")
	a.mute = true
	a.connect("42", "")
	if got := a.closed(); got != 3012 {
		t.Errorf("closed with %d, want 3012", got)
	}
}

func TestKick(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	phone, desk, other := dial(t, c.nodes[0], "device=phone"), dial(t, c.nodes[0], "device=desk"), dial(t, c.nodes[0], "")
	phone.connect("42", "")
	desk.connect("42", "")
	other.connect("43", "")
	if got := string(c.post(c.nodes[0].id, "/v1/node/disconnect", push.DisconnectRequest{User: "42", Device: "phone"})); !strings.Contains(got, `"closed":1`) {
		t.Errorf("answered %s", got)
	}
	if got := phone.closed(); got != 3503 {
		t.Errorf("phone closed with %d, want 3503", got)
	}
	c.post(c.nodes[0].id, "/v1/node/disconnect", push.DisconnectRequest{User: "42"})
	if got := desk.closed(); got != 3503 {
		t.Errorf("desk closed with %d, want 3503", got)
	}
	c.send("#43", `1`)
	if got := other.receive(1); got != "1" {
		t.Errorf("the other user received %s", got)
	}
}

func TestBeatOutOfTurn(t *testing.T) {
	c := newCluster(t, node.Config{BeatEvery: time.Hour}, 1)
	a := dial(t, c.nodes[0], "")
	a.connect("42", "")
	c.send("#42", `1`)
	c.nodes[0].deaf.Store(true)
	c.send("#42", `2`)
	c.nodes[0].deaf.Store(false)
	id := c.nodes[0].id
	c.post(id, "/v1/node/deliver", push.DeliverRequest{Node: id, Beat: true})
	if got := a.receive(2); got != "1 2" {
		t.Errorf("received %s, want 1 2", got)
	}
}

// Dispatch tells a node at once that Redis forgot it; it need not wait for its
// next renewal.
func TestBeatRenewsTheLease(t *testing.T) {
	c := newCluster(t, node.Config{RenewEvery: time.Hour}, 1)
	a := dial(t, c.nodes[0], "")
	a.connect("42", "")
	c.redis.FlushAll()
	c.send("#42", `1`)
	id := c.nodes[0].id
	c.post(id, "/v1/node/deliver", push.DeliverRequest{Node: id, Beat: true})
	if got := a.receive(1); got != "1" {
		t.Errorf("received %s, want 1", got)
	}
	eventually(t, "the lease is there again", func() bool {
		live, err := c.reg.Nodes(t.Context(), []push.NodeID{id})
		return err == nil && len(live) == 1
	})
}
