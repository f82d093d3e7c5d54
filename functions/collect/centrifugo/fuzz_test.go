package centrifugo_test

import (
	"encoding/json"
	"testing"

	"pushcluster/functions/collect/centrifugo"
)

// check reports a command that is neither one thing nor the other, and what
// cannot be answered.
func check(t *testing.T, body []byte, c centrifugo.Command) {
	t.Helper()
	asked := 0
	if c.Publish != nil {
		asked++
		if c.Publish.Channels == nil {
			t.Fatalf("%q: published to no channel", body)
		}
	}
	if c.Disconnect != nil {
		asked++
		if err := c.Disconnect.Check(); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
	}
	if c.Subscribe != nil {
		asked++
		if err := c.Subscribe.Check(); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
	}
	if c.Unsubscribe != nil {
		asked++
		if err := c.Unsubscribe.Check(); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
	}
	if c.Method == centrifugo.MethodInfo && c.Err == nil {
		asked++
	}
	if c.Err != nil {
		asked++
	}
	if asked != 1 {
		t.Fatalf("%q: the command %+v is %d things, not 1", body, c, asked)
	}
	reply := centrifugo.Reply{Command: c, Err: c.Err}
	if _, err := centrifugo.Lines([]centrifugo.Reply{reply}); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	if _, err := json.Marshal(centrifugo.Batch([]centrifugo.Reply{reply})); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
}

// FuzzDecode reads the parameters of one command, whatever its method.
func FuzzDecode(f *testing.F) {
	f.Add("publish", []byte(`{"channel":"#42","data":{"a":1},"tags":{"event":"e","ttl":"1h","collapse_key":"c"},"idempotency_key":"k","skip_history":true}`))
	f.Add("broadcast", []byte(`{"channels":["#42","all","news"],"b64data":"eyJhIjoxfQ=="}`))
	f.Add("disconnect", []byte(`{"user":"42","Disconnect":{"code":0,"reason":"r","reconnect":true},"ClientWhitelist":["a"],"whitelist":["b"],"client":"c"}`))
	f.Add("subscribe", []byte(`{"user":"42","channel":"news","recover_since":{"offset":1,"epoch":"e"},"data":{},"presence":true,"override":{}}`))
	f.Add("unsubscribe", []byte(`{"user":"42","channel":"news","session":"s"}`))
	f.Add("info", []byte(` `))
	f.Add("history", []byte(`{`))
	f.Fuzz(func(t *testing.T, method string, params []byte) {
		check(t, params, centrifugo.Decode(method, params))
	})
}

// FuzzDecodeRequest reads bodies that hold several commands, in both forms.
func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte(`{"method":"publish","params":{"channel":"a","data":1}}` + "\n" + `{"id":7,"method":"INFO","params":{}}`))
	f.Add([]byte(`{"commands":[{"publish":{"channel":"a","data":1}},{"info":{}},{}],"parallel":true}`))
	f.Add([]byte(`{"method":"publish"}{"method":"publish"} 7`))
	f.Fuzz(func(t *testing.T, body []byte) {
		const most = 5
		for _, decode := range []func([]byte, int) ([]centrifugo.Command, *centrifugo.Error){centrifugo.DecodeLines, centrifugo.DecodeBatch} {
			commands, err := decode(body, most)
			if err != nil && (len(commands) > 0 || err.Code == 0) || len(commands) > most {
				t.Fatalf("%q: %d commands and %v", body, len(commands), err)
			}
			for _, c := range commands {
				check(t, body, c)
			}
		}
	})
}
