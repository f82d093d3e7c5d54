package node_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
)

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

// Whoever develops a page learns from the log which origin it has, and what lets it
// in: once, however often its client tries, and whatever others make up.
func TestOriginIsTold(t *testing.T) {
	c := newCluster(t, node.Config{Origins: []string{"https://app.example.com"}}, 1)
	n := c.nodes[0]
	try := func(origin string) {
		if status, _ := refused(t, n, "token=42", http.Header{"Origin": {origin}}); status != 403 {
			t.Errorf("origin %.30s was answered %d, want 403", origin, status)
		}
	}
	for range 3 {
		try("http://localhost:3000")
		try("http://localhost:3001/" + strings.Repeat("x", 1000))
	}
	const line = `level=WARN msg="page refused: its origin is neither this host nor in ORIGINS" origin=`
	if got := n.log.count(line + "http://localhost:3000\n"); got != 1 {
		t.Errorf("the origin is told %d times, want once", got)
	}
	if got := n.log.count(line + "http://localhost:3001/" + strings.Repeat("x", 200-22) + "\n"); got != 1 {
		t.Errorf("the beginning of a long origin is told %d times, want once", got)
	}
	for i := range 30 {
		try(fmt.Sprintf("https://%d.example.com", i))
	}
	if got := n.log.count(line); got != 16 {
		t.Errorf("%d origins are told, want 16", got)
	}
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
