package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
	"pushcluster/shared/registry/registrytest"
	"pushcluster/shared/store"
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

func TestHandshakeRefused(t *testing.T) {
	c := newCluster(t, node.Config{Origins: []string{"https://app.example.com"}}, 1)
	tests := map[string]struct {
		query  string
		header http.Header
		status int
		code   push.Code
	}{
		"bad token in query":      {"token=bad", nil, 401, push.CodeTokenInvalid},
		"bad token in header":     {"", http.Header{"Authorization": {"Bearer bad"}}, 401, push.CodeTokenInvalid},
		"expired token":           {"token=expired", nil, 401, push.CodeTokenExpired},
		"foreign origin":          {"", http.Header{"Origin": {"https://evil.example.com"}}, 403, push.CodeForbiddenOrigin},
		"null origin":             {"", http.Header{"Origin": {"null"}}, 403, push.CodeForbiddenOrigin},
		"device of bad alphabet":  {"device=a%20b", nil, 400, push.CodeBadRequest},
		"device that is too long": {"device=" + strings.Repeat("a", 65), nil, 400, push.CodeBadRequest},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if status, code := refused(t, c.nodes[0], tt.query, tt.header); status != tt.status || code != tt.code {
				t.Errorf("answered %d %s, want %d %s", status, code, tt.status, tt.code)
			}
		})
	}
	t.Run("auth away", func(t *testing.T) {
		c.tokens.mu.Lock()
		c.tokens.away = true
		c.tokens.mu.Unlock()
		if status, code := refused(t, c.nodes[0], "token=42", nil); status != 503 || code != push.CodeUnavailable {
			t.Errorf("answered %d %s, want 503 unavailable", status, code)
		}
		a := dial(t, c.nodes[0], "")
		a.write(`{"id":1,"connect":{"token":"42"}}`)
		if r := a.reply(1); r.Error == nil || r.Error.Code != 100 || !r.Error.Temporary {
			t.Errorf("connect was answered %+v, want the temporary error 100", r)
		}
	})
}

func TestTokenInHandshake(t *testing.T) {
	c := newCluster(t, node.Config{Origins: []string{"https://app.example.com"}}, 1)
	header := http.Header{"Authorization": {"Bearer 42"}, "Origin": {"https://app.example.com"}}
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(c.nodes[0].public.URL, "http")+"/connection/websocket", header)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	a := &wsClient{t: t, ws: ws}
	if subs := a.connect("", "").Subs; subs["#42"] == nil {
		t.Errorf("subscribed to %v, want #42 among them", subs)
	}
}

func TestBadInput(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	neighbour := dial(t, c.nodes[0], "")
	neighbour.connect("1", "")
	tests := map[string]struct {
		frames []string
		code   int
	}{
		"garbage":                     {[]string{`garbage`}, 3501},
		"empty frame":                 {[]string{``}, 3501},
		"first is not connect":        {[]string{`{"id":1,"subscribe":{"channel":"news"}}`}, 3501},
		"pong without ping":           {[]string{`{}`}, 3501},
		"bad token":                   {[]string{`{"id":1,"connect":{"token":"bad"}}`}, 3500},
		"no token":                    {[]string{`{"id":1,"connect":{}}`}, 3500},
		"connect twice":               {[]string{`{"id":1,"connect":{"token":"7"}}`, `{"id":2,"connect":{"token":"7"}}`}, 3501},
		"frame over the limit":        {[]string{`{"id":1,"connect":{"token":"` + strings.Repeat("x", 70<<10) + `"}}`}, 1009},
		"brackets":                    {[]string{`{"id":1,"connect":{"data":` + strings.Repeat("[", 60_000)}, 3501},
		"garbage when connected":      {[]string{`{"id":1,"connect":{"token":"7"}}`, `[1,2`}, 3501},
		"command that does not exist": {[]string{`{"id":1,"connect":{"token":"7"}}`, `{"id":2}`}, 3501},
		"send":                        {[]string{`{"id":1,"connect":{"token":"7"}}`, `{"send":{"data":{}}}`}, 3508},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := dial(t, c.nodes[0], "")
			for _, f := range tt.frames {
				// The node may have closed before all of it is written.
				_ = a.ws.WriteMessage(websocket.TextMessage, []byte(f))
			}
			if got := a.closed(); got != tt.code {
				t.Errorf("closed with %d, want %d", got, tt.code)
			}
		})
	}
	c.send("#1", `"still here"`)
	if got := neighbour.receive(1); got != `"still here"` {
		t.Errorf("the neighbour received %s", got)
	}
}

// TestSilentFromTheStart: who opens a connection and never says who it is loses it.
func TestSilentFromTheStart(t *testing.T) {
	c := newCluster(t, node.Config{ConnectTimeout: 200 * time.Millisecond}, 1)
	if got := dial(t, c.nodes[0], "").closed(); got != 3502 {
		t.Errorf("closed with %d, want 3502", got)
	}
}

func TestErrorReplies(t *testing.T) {
	c := newCluster(t, node.Config{MaxSubscriptions: 2}, 1)
	a := dial(t, c.nodes[0], "")
	a.connect("42 room:* news", "")
	tests := []struct {
		name, command string
		code          uint32 // 0: no error
	}{
		{"public topic", `"subscribe":{"channel":"public:x"}`, 0},
		{"topic by prefix", `"subscribe":{"channel":"room:7"}`, 0},
		{"one too many", `"subscribe":{"channel":"news"}`, 106},
		{"twice", `"subscribe":{"channel":"room:7"}`, 105},
		{"own channel", `"subscribe":{"channel":"#42"}`, 105},
		{"somebody else's channel", `"subscribe":{"channel":"#43"}`, 103},
		{"topic not in the token", `"subscribe":{"channel":"secret"}`, 103},
		{"forbidden character", `"subscribe":{"channel":"a{b"}`, 107},
		{"no channel", `"subscribe":{}`, 107},
		{"map subscription", `"subscribe":{"channel":"public:y","type":1}`, 108},
		{"unsubscribe", `"unsubscribe":{"channel":"room:7"}`, 0},
		{"unsubscribe from nothing", `"unsubscribe":{"channel":"nothing"}`, 0},
		{"room for another", `"subscribe":{"channel":"news"}`, 0},
		{"publish", `"publish":{"channel":"news","data":{}}`, 108},
		{"presence", `"presence":{"channel":"news"}`, 108},
		{"presence stats", `"presence_stats":{"channel":"news"}`, 108},
		{"history", `"history":{"channel":"news"}`, 108},
		{"sub refresh", `"sub_refresh":{"channel":"news","token":"x"}`, 108},
		{"unknown rpc", `"rpc":{"method":"nope"}`, 104},
		{"ack without device", `"rpc":{"method":"ack","data":{"channel":"#42","offset":1}}`, 107},
		{"ping", `"ping":{}`, 0},
	}
	for i, tt := range tests {
		id := uint32(i + 2)
		a.write(fmt.Sprintf(`{"id":%d,%s}`, id, tt.command))
		r := a.reply(id)
		if got := r.Error.GetCode(); got != tt.code {
			t.Errorf("%s: answered %+v, want code %d", tt.name, r, tt.code)
		}
	}
}

func TestExpiredTokenIsAnOrdinaryError(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	a := dial(t, c.nodes[0], "")
	a.write(`{"id":1,"connect":{"token":"expired"}}` + "\n" + `{"id":2,"subscribe":{"channel":"public:x"}}`)
	if r := a.reply(1); r.Error.GetCode() != 109 {
		t.Errorf("connect was answered %+v, want error 109", r)
	}
}

// A token may end in the year 9999, which is as good as never.
func TestTokenEndsInFarFuture(t *testing.T) {
	c := newCluster(t, node.Config{PingInterval: time.Second}, 1)
	c.tokens.mu.Lock()
	c.tokens.expires = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	c.tokens.mu.Unlock()
	a := dial(t, c.nodes[0], "")
	if r := a.connect("short-42", ""); !r.Expires || r.Ttl < 1<<31 {
		t.Errorf("connect says expires %v, ttl %d, want true and more than 68 years", r.Expires, r.Ttl)
	}
	_ = a.ws.SetReadDeadline(time.Now().Add(patience)) // fails on a closed connection alone
	if _, frame, err := a.ws.ReadMessage(); err != nil || string(frame) != "{}" {
		t.Errorf("after connect comes %q, %v; want a ping, for no sweep found anything to end", frame, err)
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

// draining stops a node that many clients, users 0, 1, …, are connected to.
// stopped is closed when it has ended.
func draining(t *testing.T, n *testNode, many int) (clients []*wsClient, stopped chan struct{}) {
	for i := range many {
		a := dial(t, n, "")
		a.connect(fmt.Sprint(i), "")
		clients = append(clients, a)
	}
	stopped = make(chan struct{})
	go func() { defer close(stopped); n.stop() }()
	return clients, stopped
}

func TestDrain(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	clients, stopped := draining(t, c.nodes[0], 5)
	for i, a := range clients {
		if got := a.closed(); got != 3001 {
			t.Errorf("client %d was closed with %d, want 3001", i, got)
		}
		a.ws.Close()
	}
	<-stopped
	leases, err := c.reg.Nodes(context.Background(), []push.NodeID{c.nodes[0].id})
	if err != nil || len(leases) != 0 {
		t.Errorf("after the drain these leases are left: %v, %v", leases, err)
	}
	m := c.message(`1`)
	appended, err := c.reg.Append(context.Background(), items("#0", &m))
	if err != nil || len(appended.Items[0].Routes) != 0 {
		t.Errorf("after the drain these routes are left: %+v, %v", appended.Items, err)
	}
}

// A drain that nobody is left for is over.
func TestDrainEndsWithTheLastConnection(t *testing.T) {
	c := newCluster(t, node.Config{DrainTime: time.Minute}, 1)
	clients, stopped := draining(t, c.nodes[0], 3)
	if got := clients[0].closed(); got != 3001 { // the waves have begun
		t.Errorf("the first client was closed with %d, want 3001", got)
	}
	for _, a := range clients {
		a.ws.Close()
	}
	select {
	case <-stopped:
	case <-time.After(30 * time.Second):
		t.Error("the node still drains 30 s after its last connection has left, want it ended")
		<-stopped
	}
}

func TestRequestsOfOthersAreRefused(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	id := c.nodes[0].id
	unsigned, err := http.Post("http://"+id.Addr()+"/v1/node/deliver", "application/json", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	unsigned.Body.Close()
	if unsigned.StatusCode != 401 {
		t.Errorf("an unsigned request was answered %d, want 401", unsigned.StatusCode)
	}
	other := node.NewID(id.Addr())
	if got := string(c.post(other, "/v1/node/deliver", push.DeliverRequest{Node: other})); !strings.Contains(got, string(push.CodeOtherNode)) {
		t.Errorf("a request for an earlier incarnation was answered %s, want other_node", got)
	}
	if got := string(c.post(id, "/v1/node/deliver", push.DeliverRequest{Node: id, Entries: []push.DeliverEntry{{Channel: "news", Offset: 1, Message: 3}}})); !strings.Contains(got, string(push.CodeBadRequest)) {
		t.Errorf("an entry without message was answered %s, want bad_request", got)
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

// evict makes Redis evict something: it fills it with keys that may go.
func (c *cluster) evict() {
	c.t.Helper()
	if c.redis.Mini() != nil {
		c.t.Skip("skipped: miniredis evicts nothing")
	}
	c.redisDo("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
	c.redisDo("CONFIG", "SET", "maxmemory", "3mb")
	filler := strings.Repeat("x", 50_000)
	for i := range 100 {
		c.redisDo("SET", fmt.Sprint("filler:", i), filler, "PX", "5000")
	}
	c.redisDo("CONFIG", "SET", "maxmemory", "0")
}

func (c *cluster) redisDo(args ...string) {
	c.t.Helper()
	if _, err := registrytest.Do(c.redis.Addr(), args...); err != nil {
		c.t.Fatalf("%v: %v", args, err)
	}
}

// Redis was full: a channel's route, log and the log's end are all gone, and
// nothing follows that would show it. The beat finds the message in the inbox.
func TestEvictedRouteAndLog(t *testing.T) {
	c := newCluster(t, node.Config{BeatEvery: 200 * time.Millisecond, InboxSettle: 100 * time.Millisecond}, 1)
	a := dial(t, c.nodes[0], "")
	a.connect("42", "")
	c.send("#42", `1`)
	if got := a.receive(1); got != "1" {
		t.Fatalf("received %s, want 1", got)
	}
	c.nodes[0].deaf.Store(true) // as if the route had been gone when this was sent
	c.send("#42", `2`)
	c.redisDo("DEL", "push:{#42}:log", "push:{#42}:seen", "push:{#42}:routes")
	c.nodes[0].deaf.Store(false)
	c.evict()
	if got := a.receive(1); got != "2" {
		t.Errorf("received %s, want 2", got)
	}
}

// A message's log is evicted while its write to the inbox is under way, and its
// successor overtakes it on the way to the node: nothing that can be read shows
// that it exists, but the successor's predecessor does.
func TestEvictedBeforeTheInboxHasIt(t *testing.T) {
	c := newCluster(t, node.Config{BeatEvery: time.Hour}, 1)
	a := dial(t, c.nodes[0], "")
	a.connect("42", "")
	c.send("#42", `1`)
	late, next := c.message(`2`), c.message(`3`)
	lateAt, nextAt := c.place("#42", late), c.place("#42", next)
	c.redisDo("DEL", "push:{#42}:log", "push:{#42}:seen")
	c.evict()
	c.keep("#42", next, nextAt)
	c.push("#42", next, nextAt)
	c.keep("#42", late, lateAt)
	c.push("#42", late, lateAt)
	if got := a.receive(3); got != "1 2 3" {
		t.Errorf("received %s, want 1 2 3", got)
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
