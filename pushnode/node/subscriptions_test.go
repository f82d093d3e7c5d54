package node_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/centrifugal/protocol"

	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
)

// subscription posts an order to node 0 and returns its answer.
func (c *cluster) subscription(path string, req any) push.SubscriptionAnswer {
	c.t.Helper()
	var answer push.SubscriptionAnswer
	raw := c.post(c.nodes[0].id, path, req)
	if err := json.Unmarshal(raw, &answer); err != nil || !strings.Contains(string(raw), `"connections"`) {
		c.t.Fatalf("%s is answered %s", path, raw)
	}
	return answer
}

// news returns the next push that is no publication.
func (c *wsClient) news() *protocol.Push {
	c.t.Helper()
	for {
		r, err := c.next()
		if err != nil {
			c.t.Fatalf("waiting for news: %v", err)
		}
		if r.Push == nil {
			continue
		}
		if r.Push.Pub == nil {
			return r.Push
		}
		c.pubs = append(c.pubs, r.Push.Pub)
	}
}

// TestSubscribedByServer subscribes what is connected, from where it is told to,
// and ends it again.
func TestSubscribedByServer(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	// Somebody follows the topic before, so that it has a log to start in.
	other := dial(t, c.nodes[0], "")
	other.connect("43 news", "")
	other.write(`{"id":2,"subscribe":{"channel":"news"}}`)
	epoch := other.reply(2).Subscribe.Epoch
	c.send("news", `"before"`)
	first := other.publication()
	c.send("news", `"missed"`)
	other.publication()

	a, b := dial(t, c.nodes[0], "device=a"), dial(t, c.nodes[0], "format=json")
	idA := a.connect("42", "").Client
	b.connect("42", "")
	answer := c.subscription("/v1/node/subscribe", push.SubscribeRequest{User: "42", Channel: "news", Client: idA,
		Since: &push.Position{Offset: push.Offset(first.Offset), Epoch: epoch}, Data: []byte(`{"why":"joined"}`)})
	if answer.Connections != 1 || answer.Refused != 0 {
		t.Fatalf("answered %+v, want one connection", answer)
	}
	told := a.news()
	if s := told.Subscribe; told.Channel != "news" || s == nil || !s.Recoverable || !s.Positioned || s.Epoch != epoch ||
		s.Offset != first.Offset || string(s.Data) != `{"why":"joined"}` {
		t.Errorf("the client is told %+v", told)
	}
	c.send("news", `"live"`)
	if got := a.receive(2); got != `"missed" "live"` {
		t.Errorf("received %s", got)
	}
	// The other connection follows from now on, and the first is no hindrance.
	if answer := c.subscription("/v1/node/subscribe", push.SubscribeRequest{User: "42", Channel: "news"}); answer.Connections != 2 {
		t.Errorf("subscribed again: %+v, want both", answer)
	}
	if told := b.news(); told.Subscribe == nil {
		t.Errorf("the second client is told %+v", told)
	}
	c.send("news", `"both"`)
	if gotA, gotB := a.receive(1), b.receive(1); gotA != `"both"` || gotB != `"both"` {
		t.Errorf("received %s and %s", gotA, gotB)
	}
	// What the server subscribed, the client cannot end; the server can.
	a.write(`{"id":7,"unsubscribe":{"channel":"news"}}`)
	a.reply(7)
	if answer := c.subscription("/v1/node/unsubscribe", push.UnsubscribeRequest{User: "42", Channel: "news", Client: idA}); answer.Connections != 1 {
		t.Errorf("unsubscribed: %+v, want one", answer)
	}
	if told := a.news(); told.Channel != "news" || told.Unsubscribe == nil || told.Unsubscribe.Code != 2000 {
		t.Errorf("the client is told %+v", told)
	}
	c.send("news", `"not for a"`)
	c.send("#42", `"for a"`)
	if gotA, gotB := a.receive(1), b.receive(1); gotA != `"for a"` || gotB != `"not for a"` {
		t.Errorf("received %s and %s", gotA, gotB)
	}
	if answer := c.subscription("/v1/node/unsubscribe", push.UnsubscribeRequest{User: "42", Channel: "news", Client: idA}); answer.Connections != 0 {
		t.Errorf("unsubscribed twice: %+v", answer)
	}
}

func TestSubscriptionOrdersRefused(t *testing.T) {
	c := newCluster(t, node.Config{MaxSubscriptions: 3}, 1)
	dial(t, c.nodes[0], "").connect("42", "")
	for i, want := range []push.SubscriptionAnswer{{Connections: 1}, {Refused: 1}} { // #42 and all are of the server, too
		req := push.SubscribeRequest{User: "42", Channel: push.Channel(fmt.Sprint("t", i))}
		if got := c.subscription("/v1/node/subscribe", req); got.Connections != want.Connections || got.Refused != want.Refused {
			t.Errorf("order %d is answered %+v, want %+v", i, got, want)
		}
	}
	tests := map[string]struct{ path, body string }{
		"nobody":                {"subscribe", `{"user":"","channel":"a"}`},
		"no channel":            {"subscribe", `{"user":"42"}`},
		"the personal channel":  {"unsubscribe", `{"user":"42","channel":"#42"}`},
		"all":                   {"unsubscribe", `{"user":"42","channel":"all"}`},
		"long client":           {"unsubscribe", `{"user":"42","channel":"a","client":"` + strings.Repeat("x", 65) + `"}`},
		"much data":             {"subscribe", `{"user":"42","channel":"a","data":"` + strings.Repeat("x", 2048) + `"}`},
		"code out of range":     {"disconnect", `{"user":"42","code":1000}`},
		"reason that is JSON":   {"disconnect", `{"user":"42","code":4000,"reason":"17"}`},
		"reason over its limit": {"disconnect", `{"user":"42","reason":"` + strings.Repeat("x", 124) + `"}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := string(c.post(c.nodes[0].id, "/v1/node/"+tt.path, json.RawMessage(tt.body))); !strings.Contains(got, `"code":"bad_request"`) {
				t.Errorf("answered %s, want bad_request", got)
			}
		})
	}
}

// TestDisconnectChosen closes the connections that an order names, with the code
// that it names.
func TestDisconnectChosen(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	var ids []string
	var clients []*wsClient
	for range 3 {
		a := dial(t, c.nodes[0], "")
		ids = append(ids, a.connect("42", "").Client)
		clients = append(clients, a)
	}
	steps := []struct {
		req    push.DisconnectRequest
		closed int
		client int
		code   int
	}{
		{push.DisconnectRequest{User: "42", Client: ids[0], Code: 4100, Reason: "too loud"}, 1, 0, 4100},
		{push.DisconnectRequest{User: "42", Except: []string{ids[2]}}, 1, 1, push.CloseForced.Code},
		{push.DisconnectRequest{User: "42"}, 1, 2, push.CloseForced.Code},
	}
	for i, s := range steps {
		if got, want := string(c.post(c.nodes[0].id, "/v1/node/disconnect", s.req)), fmt.Sprintf(`{"closed":%d}`, s.closed); !strings.Contains(got, want) {
			t.Errorf("order %d is answered %s, want %s", i, got, want)
		}
		if got := clients[s.client].closed(); got != s.code {
			t.Errorf("after order %d the client is closed with %d, want %d", i, got, s.code)
		}
		eventually(t, "the connection is forgotten", func() bool {
			return !strings.Contains(string(c.post(c.nodes[0].id, "/v1/node/disconnect", push.DisconnectRequest{User: "42", Client: ids[s.client]})), `"closed":1`)
		})
	}
}

// An order is carried out on all of a user's connections, several at a time.
func TestOrdersForManyConnections(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	const count = 30
	var all []*wsClient
	for i := range count {
		a := dial(t, c.nodes[0], fmt.Sprintf("device=d%d", i))
		a.connect("42", "")
		all = append(all, a)
	}
	if answer := c.subscription("/v1/node/subscribe", push.SubscribeRequest{User: "42", Channel: "news"}); answer.Connections != count {
		t.Errorf("subscribed: %+v, want %d", answer, count)
	}
	if answer := c.subscription("/v1/node/unsubscribe", push.UnsubscribeRequest{User: "42", Channel: "news"}); answer.Connections != count {
		t.Errorf("unsubscribed: %+v, want %d", answer, count)
	}
	for i, a := range all {
		if on, off := a.news(), a.news(); on.Subscribe == nil || off.Unsubscribe == nil {
			t.Errorf("connection %d was told %+v, then %+v", i, on, off)
		}
	}
}
