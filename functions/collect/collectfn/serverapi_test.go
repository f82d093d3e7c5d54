package collectfn

import (
	"fmt"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"pushcluster/shared/push"
)

// api posts body to a path of the server API with the key of shop; headers are
// pairs.
func (r *rig) api(path, body string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest("POST", path, strings.NewReader(body))
	req.Header.Set("X-API-Key", "sesame")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Del(headers[i])
		if headers[i+1] != "" {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	return r.do(req)
}

// sent returns the messages that Dispatch got since the last call.
func (r *rig) sent() []push.Message {
	var messages []push.Message
	for _, req := range r.asked() {
		messages = append(messages, req.Messages...)
	}
	return messages
}

func TestAPIPublish(t *testing.T) {
	const ok = `{"result":{}}`
	tests := map[string]struct {
		method, body string
		answer       string // the whole of it
		to           push.Recipients
		data         string
		more         push.Message // of which event, collapse key and id count
	}{
		"to a user":  {"publish", `{"channel":"#42","data":{"a": 1}}`, ok, push.Recipients{Users: []push.UserID{"42"}}, `{"a":1}`, push.Message{}},
		"to a topic": {"publish", `{"channel":"news","data":"x"}`, ok, push.Recipients{Channels: []push.Channel{"news"}}, `"x"`, push.Message{}},
		"to all":     {"publish", `{"channel":"all","data":null}`, ok, push.Recipients{All: true}, `null`, push.Message{}},
		"as bytes":   {"publish", `{"channel":"news","b64data":"eyJhIjoxfQ=="}`, ok, push.Recipients{Channels: []push.Channel{"news"}}, `{"a":1}`, push.Message{}},
		"with all that it may": {"publish", `{"channel":"#42","data":1,"idempotency_key":"k-1","skip_history":true,"delta":true,"version":0,
			"tags":{"event":"e","collapse_key":"c","ttl":"1h"}}`, ok, push.Recipients{Users: []push.UserID{"42"}}, `1`,
			push.Message{ID: "shop/k-1", Event: "e", CollapseKey: "c"}},
		"to several": {"broadcast", `{"channels":["#43","news","#42","all","news"],"data":1,"idempotency_key":"k"}`,
			`{"result":{"responses":[{"result":{}},{"result":{}},{"result":{}},{"result":{}},{"result":{}}]}}`,
			push.Recipients{Users: []push.UserID{"42", "43"}, Channels: []push.Channel{"news"}, All: true}, `1`, push.Message{ID: "shop/k"}},
		"to some that cannot be": {"broadcast", `{"channels":["#42","a*",""],"data":1}`,
			`{"result":{"responses":[{"result":{}},{"error":{"code":107,"message":"bad request: channel \"a*\" holds '*', which no name may"}},` +
				`{"error":{"code":107,"message":"bad request: channel is empty"}}]}}`,
			push.Recipients{Users: []push.UserID{"42"}}, `1`, push.Message{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			w := r.api("/api/"+tt.method, tt.body)
			if got := strings.TrimSpace(w.Body.String()); w.Code != 200 || got != tt.answer || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("answered %d %s, want %s", w.Code, got, tt.answer)
			}
			sent := r.sent()
			if len(sent) != 1 {
				t.Fatalf("%d messages were sent, want 1", len(sent))
			}
			m := sent[0]
			if !reflect.DeepEqual(m.To, tt.to) || string(m.Data) != tt.data || m.Event != tt.more.Event || m.CollapseKey != tt.more.CollapseKey {
				t.Errorf("sent %+v", m)
			}
			if tt.more.ID != "" && m.ID != tt.more.ID {
				t.Errorf("the id is %s, want %s", m.ID, tt.more.ID)
			}
			if _, kept := r.stored(m.ID); !kept {
				t.Error("the message is not stored")
			}
		})
	}
}

func TestAPIRefuses(t *testing.T) {
	long := strings.Repeat("x", 256)
	tests := map[string]struct {
		path, body string
		status     int
		code       int
		message    string // part of it
	}{
		"not JSON":               {"publish", `{"channel":`, 400, 107, "ends too early"},
		"no object":              {"publish", `["news"]`, 400, 107, "must be an object"},
		"empty":                  {"publish", ``, 400, 107, "empty"},
		"null":                   {"publish", ` null`, 400, 107, "must be an object"},
		"unknown field":          {"publish", `{"channel":"news","data":1,"color":"red"}`, 400, 107, `"color"`},
		"wrong type":             {"publish", `{"channel":7,"data":1}`, 400, 107, `"channel" must be a string`},
		"no channel":             {"publish", `{"data":1}`, 200, 107, "channel is empty"},
		"nobody's channel":       {"publish", `{"channel":"#","data":1}`, 200, 107, "user is empty"},
		"no data":                {"publish", `{"channel":"news"}`, 200, 107, "data is missing"},
		"too much data":          {"publish", `{"channel":"news","data":"` + strings.Repeat("x", push.MaxData) + `"}`, 200, 106, "data is"},
		"bytes that are no JSON": {"publish", `{"channel":"news","b64data":"AAE="}`, 200, 107, "base64 of JSON"},
		"bytes that are nothing": {"publish", `{"channel":"news","b64data":"?"}`, 200, 107, "base64 of JSON"},
		"foreign tag":            {"publish", `{"channel":"news","data":1,"tags":{"color":"red"}}`, 200, 108, `"color"`},
		"bad ttl":                {"publish", `{"channel":"news","data":1,"tags":{"ttl":"soon"}}`, 200, 107, "ttl"},
		"version":                {"publish", `{"channel":"news","data":1,"version":3}`, 200, 108, "version"},
		"long key":               {"publish", `{"channel":"news","data":1,"idempotency_key":"` + long + `"}`, 200, 107, "id is 256 bytes"},
		"key with a line feed":   {"publish", `{"channel":"news","data":1,"idempotency_key":"a\n"}`, 200, 107, "control character"},
		"no channels":            {"broadcast", `{"channels":[],"data":1}`, 200, 107, "channels is empty"},
		"10,001 channels":        {"broadcast", `{"channels":["a"` + strings.Repeat(`,"a"`, 10_000) + `],"data":1}`, 200, 106, "10001"},
		"presence":               {"presence", `{"channel":"news"}`, 200, 108, "not available: presence"},
		"history":                {"history", `{"channel":"news","limit":1}`, 200, 108, "not available: history"},
		"channels":               {"channels", `{}`, 200, 108, "not available"},
		"unknown method":         {"dance", `{}`, 404, 104, "method not found: there are broadcast, disconnect"},
		"batch, not JSON":        {"batch", `{"commands":[`, 400, 107, "ends too early"},
		"batch, many":            {"batch", `{"commands":[{}` + strings.Repeat(`,{}`, 1000) + `]}`, 400, 106, "more than 1000"},
		"disconnect nobody":      {"disconnect", `{}`, 200, 107, "user is empty"},
		"disconnect a session":   {"disconnect", `{"user":"42","session":"s"}`, 200, 108, "session"},
		"disconnect by odd code": {"disconnect", `{"user":"42","disconnect":{"code":99}}`, 200, 107, "3000 to 4999"},
		"as gocent 3 writes it":  {"disconnect", `{"user":"42","Disconnect":{"code":99}}`, 200, 107, "3000 to 4999"},
		"in other capitals":      {"disconnect", `{"USER":"42"}`, 400, 107, `no field "USER"`},
		"subscribe to a person":  {"subscribe", `{"user":"42","channel":"#43"}`, 200, 107, "does not start with"},
		"subscribe for a while":  {"subscribe", `{"user":"42","channel":"news","expire_at":1}`, 200, 108, "expire_at"},
		"unsubscribe a session":  {"unsubscribe", `{"user":"42","channel":"news","session":"s"}`, 200, 108, "session"},
		"over 1 MiB":             {"publish", `{"channel":"news","data":"` + strings.Repeat("x", MaxBody) + `"}`, 413, 106, "1048576"},
		"info of something":      {"info", `{"node":"a"}`, 400, 107, `"node"`},
		"batch within a batch":   {"batch", `{"commands":[{"batch":{}}]}`, 200, 0, `{"replies":[{"error":{"code":104,"message":"method not found`},
		"batch, two in one":      {"batch", `{"commands":[{"info":{},"publish":{}}]}`, 200, 0, `{"replies":[{"error":{"code":107,"message":"bad request: a command`},
		"batch, what is absent":  {"batch", `{"commands":[{"publish":null,"history":{},"info":null}]}`, 200, 0, `{"replies":[{"error":{"code":108,`},
		"batch, nothing":         {"batch", `{"commands":[]}`, 200, 0, `{"replies":[]}`},
		"lines, none":            {"", ``, 400, 107, "empty"},
		"lines, second not JSON": {"", `{"method":"publish","params":{"channel":"a","data":1}}` + "\n{", 400, 107, "command 2 is not JSON"},
		"lines, unknown field":   {"", `{"method":"publish","parameters":{}}`, 400, 107, `"parameters"`},
		"lines, too many":        {"", strings.Repeat("{}\n", 1001), 400, 106, "more than 1000"},
		"lines, unknown method":  {"", `{"id":3,"method":"dance"}`, 200, 0, `{"id":3,"error":{"code":104,`},
		"lines, bad params":      {"", `{"method":"publish","params":7}`, 200, 0, `{"error":{"code":107,`},
		"lines, no params":       {"", `{"method":"publish"}`, 200, 0, `{"error":{"code":107,`},
		"lines, presence of it":  {"", `{"method":"presence_stats","params":{"channel":"a"}}`, 200, 0, `{"error":{"code":108,`},
		"lines, in capitals":     {"", `{"method":"DISCONNECT","params":{}}`, 200, 0, "user is empty"},
	}
	r := newRig(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := "/api/" + tt.path
			w := r.api(strings.TrimSuffix(path, "/"), tt.body)
			got := w.Body.String()
			if w.Code != tt.status || !strings.Contains(strings.ReplaceAll(got, `\"`, `"`), tt.message) {
				t.Errorf("answered %d %s, want %d with %q", w.Code, got, tt.status, tt.message)
			}
			if tt.code != 0 && !strings.HasPrefix(got, fmt.Sprintf(`{"error":{"code":%d,"message":"`, tt.code)) {
				t.Errorf("answered %s, want the error %d", got, tt.code)
			}
			if sent := r.sent(); len(sent) != 0 {
				t.Errorf("%d messages were sent all the same", len(sent))
			}
		})
	}
}

// TestAPIHolders is every way to bring an API key, and to bring none that counts.
func TestAPIHolders(t *testing.T) {
	tests := map[string]struct {
		header []string
		status int
	}{
		"X-API-Key":                 {nil, 200},
		"apikey":                    {[]string{"X-API-Key", "", "Authorization", "apikey other"}, 200},
		"Apikey with space":         {[]string{"X-API-Key", "", "Authorization", "APIKEY  other "}, 200},
		"Bearer":                    {[]string{"X-API-Key", "", "Authorization", "Bearer other"}, 200},
		"none":                      {[]string{"X-API-Key", ""}, 401},
		"wrong":                     {[]string{"X-API-Key", "wrong"}, 401},
		"apikey, wrong":             {[]string{"X-API-Key", "", "Authorization", "apikey wrong"}, 401},
		"apikey, empty":             {[]string{"X-API-Key", "", "Authorization", "apikey "}, 401},
		"X-API-Key before the rest": {[]string{"X-API-Key", "wrong", "Authorization", "apikey other"}, 401},
	}
	r := newRig(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/api", "/api/", "/api/info", "/api/batch"} {
				body := map[string]string{"/api/info": `{}`, "/api/batch": `{"commands":[]}`}[path]
				if body == "" {
					body = `{"method":"info"}`
				}
				w := r.api(path, body, tt.header...)
				if w.Code != tt.status || tt.status == 401 && !strings.HasPrefix(w.Body.String(), `{"error":{"code":101,"message":"unauthorized`) {
					t.Errorf("%s is answered %d %s, want %d", path, w.Code, w.Body, tt.status)
				}
			}
		})
	}
}

// TestAPIInOrder sends commands of all kinds in one request: they are carried
// out in order, each has its reply, and what is published in a row is handed
// over at once.
func TestAPIInOrder(t *testing.T) {
	commands := []string{
		`"publish":{"channel":"news","data":1,"idempotency_key":"a"}`,
		`"broadcast":{"channels":["#42","#43"],"data":2,"idempotency_key":"b"}`,
		`"publish":{"channel":"news","data":1,"idempotency_key":"a"}`,
		`"publish":{"channel":"news","data":"other","idempotency_key":"a"}`,
		`"disconnect":{"user":"42","client":"c","whitelist":["d"],"disconnect":{"code":4001,"reason":"bye"}}`,
		`"publish":{"channel":"","data":1}`,
		`"publish":{"channel":"news","data":3,"idempotency_key":"c"}`,
		`"subscribe":{"user":"42","channel":"news","recover_since":{"offset":7,"epoch":"e"},"data":{"x":1}}`,
		`"unsubscribe":{"user":"42","channel":"news","client":"c"}`,
		`"info":{}`,
		`"history":{"channel":"news"}`,
	}
	results := []string{
		`{}`, `{"responses":[{"result":{}},{"result":{}}]}`, `{}`, `!107`, `{}`, `!107`, `{}`, `{}`, `{}`,
		`{"nodes":[]}`, `!108`,
	}
	bare := func() (body string) {
		for _, c := range commands {
			method, params, _ := strings.Cut(c, ":")
			body += fmt.Sprintf("{\"method\":%s,\"params\":%s}\n", method, params)
		}
		return body
	}
	tests := map[string]struct {
		path, body string
		reply      func(method, result string) string
		frame      func(replies []string) string
	}{
		"batch": {"/api/batch", `{"parallel":true,"commands":[{` + strings.Join(commands, "},{") + `}]}`,
			func(method, result string) string { return fmt.Sprintf(`{%s:%s}`, method, result) },
			func(replies []string) string { return `{"replies":[` + strings.Join(replies, ",") + "]}\n" }},
		"lines": {"/api", bare(),
			func(_, result string) string { return fmt.Sprintf(`{"result":%s}`, result) },
			func(replies []string) string { return strings.Join(replies, "\n") + "\n" }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.nodes.open = map[push.UserID][]push.OpenConnection{"42": {{Device: "d"}}}
			w := r.api(tt.path, tt.body)
			got := w.Body.String()
			var want []string
			for i, result := range results {
				method, _, _ := strings.Cut(commands[i], ":")
				if code, bad := strings.CutPrefix(result, "!"); bad {
					want = append(want, fmt.Sprintf(`{"error":{"code":%s,"message":""}}`, code))
					continue
				}
				want = append(want, tt.reply(method, result))
			}
			if got := withoutMessages(got); w.Code != 200 || got != tt.frame(want) {
				t.Errorf("answered %d\n%s\nwant\n%s", w.Code, got, tt.frame(want))
			}
			var handed [][]push.MessageID
			for _, req := range r.asked() {
				var ids []push.MessageID
				for _, m := range req.Messages {
					ids = append(ids, m.ID)
				}
				handed = append(handed, ids)
			}
			if want := [][]push.MessageID{{"shop/a", "shop/b"}, {"shop/c"}}; !reflect.DeepEqual(handed, want) {
				t.Errorf("handed over %v, want %v", handed, want)
			}
			if got := fmt.Sprintf("%+v", r.nodes.disconnected); got != "[{User:42 Device: Client:c Except:[d] Code:4001 Reason:bye}]" {
				t.Errorf("disconnected %s", got)
			}
			if len(r.nodes.subscribed) != 1 || r.nodes.subscribed[0].Since == nil || r.nodes.subscribed[0].Since.Offset != 7 || string(r.nodes.subscribed[0].Data) != `{"x":1}` {
				t.Errorf("subscribed %+v", r.nodes.subscribed)
			}
			if got := fmt.Sprintf("%+v", r.nodes.unsubscribed); got != "[{User:42 Channel:news Client:c}]" {
				t.Errorf("unsubscribed %s", got)
			}
		})
	}
}

// withoutMessages empties the messages of errors in an answer.
func withoutMessages(answer string) string {
	const mark = `"message":"`
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(answer, mark)
		out.WriteString(before)
		if !found {
			return out.String()
		}
		out.WriteString(mark)
		for i := 0; i < len(rest); i++ {
			if rest[i] == '\\' {
				i++
			} else if rest[i] == '"' {
				answer = rest[i:]
				break
			}
		}
	}
}

// TestAPIWhatIsAway is what a caller hears when a part is away, in the body and,
// if it asks for that, as status.
func TestAPIWhatIsAway(t *testing.T) {
	tests := map[string]struct {
		prepare      func(*rig)
		method, body string
		code         int
	}{
		"Dispatch, publish": {func(r *rig) { r.set(func() { r.down = true }) }, "publish", `{"channel":"a","data":1}`, 0}, // the outbox has it
		"the outbox too":    {func(r *rig) { r.set(func() { r.down = true }); r.store.outboxAway = true }, "publish", `{"channel":"a","data":1}`, 100},
		"the store":         {func(r *rig) { r.store.Close() }, "broadcast", `{"channels":["a"],"data":1}`, 100},
		"the nodes":         {func(r *rig) { r.nodes.away = true }, "disconnect", `{"user":"42"}`, 100},
		"one node":          {func(r *rig) { r.nodes.unanswered = []push.NodeID{"n"} }, "subscribe", `{"user":"42","channel":"a"}`, 100},
		"room":              {func(r *rig) { r.nodes.refused = 1 }, "subscribe", `{"user":"42","channel":"a"}`, 106},
		"who could ask":     {func(r *rig) { r.collect.cfg.Questions = nil }, "info", `{}`, 108},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for mode, want := range map[string]int{"": 200, "transport": map[int]int{0: 200, 100: 500, 106: 400, 108: 400}[tt.code]} {
				r := newRig(t)
				tt.prepare(r)
				w := r.api("/api/"+tt.method, tt.body, "X-Centrifugo-Error-Mode", mode)
				prefix := `{"result":{`
				if tt.code != 0 {
					prefix = fmt.Sprintf(`{"error":{"code":%d,`, tt.code)
				}
				if w.Code != want || !strings.HasPrefix(w.Body.String(), prefix) {
					t.Errorf("mode %q is answered %d %s, want %d %s", mode, w.Code, w.Body, want, prefix)
				}
			}
		})
	}
}
