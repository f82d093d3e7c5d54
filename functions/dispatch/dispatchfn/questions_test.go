package dispatchfn_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
)

// answering starts a node that answers every request with what answer says of
// its path and body. The node has a lease.
func (c *cluster) answering(name string, answer func(id push.NodeID, path string, body []byte) any) push.NodeID {
	c.t.Helper()
	var id push.NodeID
	server := httptest.NewServer(signature.Require(
		signature.NewVerifier(signature.VerifierConfig{Now: c.reg.Now}, keys(c.t)), 1<<20,
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			a := answer(id, r.URL.Path, body)
			if a == nil {
				<-r.Context().Done()
				return
			}
			if p, ok := a.(*push.Problem); ok {
				serve.Problem(w, r, p)
				return
			}
			serve.JSON(w, 200, a)
		})))
	c.t.Cleanup(server.Close)
	id = push.NewNodeID(strings.TrimPrefix(server.URL, "http://"), name)
	if _, err := c.reg.Grant(c.t.Context(), registry.Lease{Node: id}); err != nil {
		c.t.Fatal(err)
	}
	return id
}

// question asks Dispatch over its own port.
func (c *cluster) question(path, body string) (int, []byte) {
	c.t.Helper()
	server := httptest.NewServer(c.Public(signature.NewVerifier(signature.VerifierConfig{Now: c.reg.Now}, keys(c.t))))
	defer server.Close()
	client := &http.Client{Transport: &signature.Transport{
		Signer: signature.NewSigner(keys(c.t)), Base: server.Client().Transport, Now: c.reg.Now}}
	res, err := client.Post(server.URL+path, "application/json", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res.StatusCode, answer
}

func TestInfo(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{PushTime: 3 * time.Second}, nil)
	since := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	one := func(after time.Duration) func(push.NodeID, string, []byte) any {
		return func(id push.NodeID, path string, body []byte) any {
			if path != "/v1/node/info" || string(body) != `{"user":"42"}`+"\n" {
				t.Errorf("a node was asked %s %s", path, body)
			}
			return push.InfoAnswer{Connections: []push.OpenConnection{{Node: id, Device: "d", Since: since.Add(after)}}}
		}
	}
	late, early := c.answering("one", one(time.Minute)), c.answering("two", one(0))
	// A successor at the address of one whose lease has not ended yet.
	c.answering("three", func(push.NodeID, string, []byte) any {
		return push.InfoAnswer{Connections: []push.OpenConnection{{Node: "somebody else", Since: since}}}
	})
	slow := c.answering("slow", func(push.NodeID, string, []byte) any { return nil })
	broken := c.answering("broken", func(push.NodeID, string, []byte) any { return push.NewProblem(push.CodeInternal, "no") })
	if _, err := c.reg.Grant(t.Context(), registry.Lease{Node: "127.0.0.1:1~closed", Draining: true}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	status, raw := c.question("/v1/dispatch/info", `{"user":"42"}`)
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	var got push.InfoAnswer
	if err := json.Unmarshal(raw, &got); err != nil || status != 200 {
		t.Fatalf("answered %d %s", status, raw)
	}
	want := []push.OpenConnection{{Node: early, Device: "d", Since: since}, {Node: late, Device: "d", Since: since.Add(time.Minute)}}
	if !slices.Equal(got.Connections, want) {
		t.Errorf("connections %+v, want %+v", got.Connections, want)
	}
	unanswered := []push.NodeID{slow, broken, "127.0.0.1:1~closed"}
	slices.Sort(unanswered)
	if !slices.Equal(got.Unanswered, unanswered) {
		t.Errorf("unanswered %v, want %v", got.Unanswered, unanswered)
	}
}

func TestOrders(t *testing.T) {
	tests := map[string]struct {
		path, body string
		node, sent string // what the nodes are asked
	}{
		"disconnect a user":   {"/v1/dispatch/disconnect", `{"user":"42"}`, "/v1/node/disconnect", `{"user":"42"}`},
		"disconnect a device": {"/v1/dispatch/disconnect", `{"user":"42","device":"d"}`, "/v1/node/disconnect", `{"user":"42","device":"d"}`},
		"revoke a user": {"/v1/dispatch/revoke", `{"user":"42","at":"2030-01-01T00:00:00Z","until":"2031-01-01T00:00:00Z"}`,
			"/v1/node/revoke", `{"user":"42","at":"2030-01-01T00:00:00Z","until":"2031-01-01T00:00:00Z"}`},
		"revoke a token": {"/v1/dispatch/revoke", `{"jti":"t","at":"2030-01-01T00:00:00Z","until":"2031-01-01T00:00:00Z"}`,
			"/v1/node/revoke", `{"jti":"t","at":"2030-01-01T00:00:00Z","until":"2031-01-01T00:00:00Z"}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, dispatchfn.Config{}, nil)
			for i, name := range []string{"one", "two"} {
				c.answering(name, func(_ push.NodeID, path string, body []byte) any {
					if path != tt.node || strings.TrimSpace(string(body)) != tt.sent {
						t.Errorf("a node was asked %s %s, want %s %s", path, body, tt.node, tt.sent)
					}
					return push.DisconnectAnswer{Closed: i + 1}
				})
			}
			if status, got := c.question(tt.path, tt.body); status != 200 || strings.TrimSpace(string(got)) != `{"closed":3}` {
				t.Errorf("answered %d %s, want 3 closed", status, got)
			}
		})
	}
}

func TestBadQuestions(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	tests := map[string]struct {
		path, body string
		status     int
	}{
		"no user":         {"/v1/dispatch/info", `{}`, 400},
		"unknown field":   {"/v1/dispatch/info", `{"user":"42","x":1}`, 400},
		"not JSON":        {"/v1/dispatch/disconnect", `{`, 400},
		"bad device":      {"/v1/dispatch/disconnect", `{"user":"42","device":"*"}`, 400},
		"nothing revoked": {"/v1/dispatch/revoke", `{}`, 400},
		"both revoked":    {"/v1/dispatch/revoke", `{"user":"42","jti":"t"}`, 400},
		"other question":  {"/v1/dispatch/other", `{}`, 404},
		"no nodes":        {"/v1/dispatch/info", `{"user":"42"}`, 200},
		"none to list":    {"/v1/dispatch/nodes", `{}`, 200},
		"list of whom":    {"/v1/dispatch/nodes", `{"user":"42"}`, 400},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if status, body := c.question(tt.path, tt.body); status != tt.status {
				t.Errorf("%s %s is answered %d %s, want %d", tt.path, tt.body, status, body, tt.status)
			}
		})
	}
	t.Run("unsigned", func(t *testing.T) {
		w := httptest.NewRecorder()
		c.Public(signature.NewVerifier(signature.VerifierConfig{Now: c.reg.Now}, keys(t))).
			ServeHTTP(w, httptest.NewRequest("POST", "/v1/dispatch/info", strings.NewReader(`{"user":"42"}`)))
		if w.Code != 401 {
			t.Errorf("answered %d %s, want 401", w.Code, w.Body)
		}
	})
	t.Run("Redis is away", func(t *testing.T) {
		c.redis.Stop()
		if status, body := c.question("/v1/dispatch/info", `{"user":"42"}`); status != 503 {
			t.Errorf("answered %d %s, want 503", status, body)
		}
	})
}
