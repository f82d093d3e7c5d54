package dispatchfn_test

import (
	"strings"
	"testing"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
)

func TestSubscriptionOrders(t *testing.T) {
	tests := map[string]struct {
		path, body string
		sent       string // what the nodes are asked, at the same path below /v1/node
	}{
		"subscribe a user": {"subscribe", `{"user":"42","channel":"news"}`, `{"user":"42","channel":"news"}`},
		"subscribe a connection": {"subscribe", `{"user":"42","channel":"news","client":"c","since":{"offset":7,"epoch":"e"},"data":{"a":1}}`,
			`{"user":"42","channel":"news","client":"c","since":{"offset":7,"epoch":"e"},"data":{"a":1}}`},
		"unsubscribe": {"unsubscribe", `{"user":"42","channel":"news"}`, `{"user":"42","channel":"news"}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, dispatchfn.Config{}, nil)
			for i, name := range []string{"one", "two"} {
				c.answering(name, func(_ push.NodeID, path string, body []byte) any {
					if path != "/v1/node/"+tt.path || strings.TrimSpace(string(body)) != tt.sent {
						t.Errorf("a node was asked %s %s, want %s", path, body, tt.sent)
					}
					return push.SubscriptionAnswer{Connections: i + 1, Refused: i}
				})
			}
			c.answering("broken", func(push.NodeID, string, []byte) any { return push.NewProblem(push.CodeInternal, "no") })
			status, got := c.question("/v1/dispatch/"+tt.path, tt.body)
			if status != 200 || !strings.HasPrefix(string(got), `{"connections":3,"refused":1,"unanswered":["127.0.0.1:`) {
				t.Errorf("answered %d %s, want 3 connections, one refused, and a node that did not answer", status, got)
			}
		})
	}
}

func TestBadSubscriptionOrders(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	tests := map[string]struct{ path, body string }{
		"no user":               {"subscribe", `{"channel":"news"}`},
		"no channel":            {"unsubscribe", `{"user":"42"}`},
		"all":                   {"subscribe", `{"user":"42","channel":"all"}`},
		"personal channel":      {"unsubscribe", `{"user":"42","channel":"#42"}`},
		"disconnect, bad code":  {"disconnect", `{"user":"42","code":200}`},
		"disconnect, many stay": {"disconnect", `{"user":"42","except":["` + strings.Repeat(`a","`, 50) + `a"]}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if status, got := c.question("/v1/dispatch/"+tt.path, tt.body); status != 400 || !strings.Contains(string(got), "bad_request") {
				t.Errorf("answered %d %s, want 400", status, got)
			}
		})
	}
}
