package node_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
)

func TestInfo(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	before := time.Now().Add(-time.Minute) // the time is Redis', as it was heard
	dial(t, c.nodes[0], "device=phone").connect("42", "")
	dial(t, c.nodes[0], "").connect("42", "")
	dial(t, c.nodes[0], "device=other").connect("43", "")
	dial(t, c.nodes[0], "device=mute") // never sends its connect command
	tests := map[string]struct {
		user push.UserID
		want map[push.Device]int
	}{
		"two connections": {"42", map[push.Device]int{"phone": 1, "": 1}},
		"another user's":  {"43", map[push.Device]int{"other": 1}},
		"nobody":          {"44", map[push.Device]int{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var answer push.InfoAnswer
			raw := c.post(c.nodes[0].id, "/v1/node/info", push.InfoRequest{User: tt.user})
			if err := json.Unmarshal(raw, &answer); err != nil || answer.Connections == nil {
				t.Fatalf("answered %s", raw)
			}
			got := map[push.Device]int{}
			for _, o := range answer.Connections {
				got[o.Device]++
				if o.Node != c.nodes[0].id || o.Since.Before(before) || o.Since.After(time.Now().Add(time.Minute)) {
					t.Errorf("a connection is %+v", o)
				}
			}
			if len(got) != len(tt.want) || got["phone"] != tt.want["phone"] || got[""] != tt.want[""] || got["other"] != tt.want["other"] {
				t.Errorf("devices %v, want %v", got, tt.want)
			}
		})
	}
}

func TestRevoke(t *testing.T) {
	tests := map[string]struct {
		revoked push.Revocation
		closed  []bool // of "42 a", "42 b" and "43 a"
		answer  string
	}{
		"a user":        {push.Revocation{User: "42", At: time.Now()}, []bool{true, true, false}, `{"closed":2}`},
		"a token":       {push.Revocation{TokenID: "42 b"}, []bool{false, true, false}, `{"closed":1}`},
		"nobody's":      {push.Revocation{TokenID: "42"}, []bool{false, false, false}, `{"closed":0}`},
		"neither":       {push.Revocation{At: time.Now()}, []bool{false, false, false}, `"code":"bad_request"`},
		"both is wrong": {push.Revocation{User: "42", TokenID: "42 a"}, []bool{false, false, false}, `"code":"bad_request"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, node.Config{}, 1)
			var clients []*wsClient
			for _, token := range []string{"42 a", "42 b", "43 a"} {
				a := dial(t, c.nodes[0], "")
				a.connect(token, "")
				clients = append(clients, a)
			}
			answer := string(c.post(c.nodes[0].id, "/v1/node/revoke", push.RevokeRequest{Revocation: tt.revoked}))
			if !strings.Contains(answer, tt.answer) {
				t.Errorf("answered %s, want %s", answer, tt.answer)
			}
			for i, a := range clients {
				if tt.closed[i] {
					if got := a.closed(); got != push.CloseInvalidToken.Code {
						t.Errorf("client %d was closed with %d, want %d", i, got, push.CloseInvalidToken.Code)
					}
				} else if c.send(push.All, `1`); a.receive(1) != "1" {
					t.Errorf("client %d did not stay open", i)
				}
			}
		})
	}
}

// TestRevokeBeforeConnect revokes a token between the handshake, which verified
// it, and the connect command.
func TestRevokeBeforeConnect(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	a := dial(t, c.nodes[0], "token=42")
	c.post(c.nodes[0].id, "/v1/node/revoke", push.RevokeRequest{Revocation: push.Revocation{User: "42", At: time.Now()}})
	a.write(`{"id":1,"connect":{}}`)
	if got := a.closed(); got != push.CloseShutdown.Code {
		t.Errorf("closed with %d, want %d: the client comes back, and is told then", got, push.CloseShutdown.Code)
	}
	if got := string(c.post(c.nodes[0].id, "/v1/node/info", push.InfoRequest{User: "42"})); !strings.Contains(got, `"connections":[]`) {
		t.Errorf("connections: %s, want none", got)
	}
}
