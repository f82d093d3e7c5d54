package collectfn

import (
	"context"
	"errors"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// nodes is a Dispatch that knows which connections there are.
type nodes struct {
	mu         sync.Mutex // guards what follows
	away       bool
	unanswered []push.NodeID
	open       map[push.UserID][]push.OpenConnection
	revoked    []push.Revocation
	refused    int // by a subscribe

	subscribed   []push.SubscribeRequest
	unsubscribed []push.UnsubscribeRequest
	disconnected []push.DisconnectRequest
}

func (n *nodes) Info(_ context.Context, req push.InfoRequest) (push.InfoAnswer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away {
		return push.InfoAnswer{}, errors.New("away")
	}
	return push.InfoAnswer{Connections: n.open[req.User], Unanswered: n.unanswered}, nil
}

func (n *nodes) Nodes(context.Context) (push.NodesAnswer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away {
		return push.NodesAnswer{}, errors.New("away")
	}
	return push.NodesAnswer{Nodes: []push.NodeInfo{{Node: "10.0.0.1:8811~A", Address: "10.0.0.1:8811", LeaseLeft: "12s"}}}, nil
}

func (n *nodes) Subscribe(_ context.Context, req push.SubscribeRequest) (push.SubscriptionAnswer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away {
		return push.SubscriptionAnswer{}, errors.New("away")
	}
	n.subscribed = append(n.subscribed, req)
	return push.SubscriptionAnswer{Connections: len(n.open[req.User]), Refused: n.refused, Unanswered: n.unanswered}, nil
}

func (n *nodes) Unsubscribe(_ context.Context, req push.UnsubscribeRequest) (push.SubscriptionAnswer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away {
		return push.SubscriptionAnswer{}, errors.New("away")
	}
	n.unsubscribed = append(n.unsubscribed, req)
	return push.SubscriptionAnswer{Connections: len(n.open[req.User]), Unanswered: n.unanswered}, nil
}

func (n *nodes) Disconnect(_ context.Context, req push.DisconnectRequest) (push.DisconnectAnswer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away {
		return push.DisconnectAnswer{}, errors.New("away")
	}
	n.disconnected = append(n.disconnected, req)
	before := len(n.open[req.User])
	n.open[req.User] = slices.DeleteFunc(n.open[req.User], func(c push.OpenConnection) bool {
		return req.Device == "" || req.Device == c.Device
	})
	return push.DisconnectAnswer{Closed: before - len(n.open[req.User]), Unanswered: n.unanswered}, nil
}

func (n *nodes) Revoke(_ context.Context, req push.RevokeRequest) (push.DisconnectAnswer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.away {
		return push.DisconnectAnswer{}, errors.New("away")
	}
	n.revoked = append(n.revoked, req.Revocation)
	closed := len(n.open[req.User])
	delete(n.open, req.User)
	return push.DisconnectAnswer{Closed: closed, Unanswered: n.unanswered}, nil
}

// order sends a request with the key of shop.
func (r *rig) order(method, path, body string) *httptest.ResponseRecorder {
	return r.orderAs("sesame", method, path, body)
}

func (r *rig) orderAs(key, method, path, body string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	if key != "" {
		req.Header.Set("X-API-Key", key)
	}
	return r.do(req)
}

// wantAnswer fails the test unless w has the status and holds part.
func wantAnswer(t *testing.T, what string, w *httptest.ResponseRecorder, status int, part string) {
	t.Helper()
	if w.Code != status || !strings.Contains(w.Body.String(), part) {
		t.Errorf("%s is answered %d %s, want %d with %s", what, w.Code, w.Body, status, part)
	}
}

// TestOrdersNeedKeyAndStore asks everything without a key, with the store away,
// and with a parameter that nobody knows.
func TestOrdersNeedKeyAndStore(t *testing.T) {
	orders := map[string]struct{ method, path, body string }{
		"state":   {"GET", "/v1/messages/shop/a", ""},
		"cancel":  {"DELETE", "/v1/messages/shop/a", ""},
		"user":    {"GET", "/v1/users/42", ""},
		"kick":    {"DELETE", "/v1/users/42/connections", ""},
		"nodes":   {"GET", "/v1/nodes", ""},
		"revoke":  {"POST", "/v1/revocations", `{"user":"42"}`},
		"parked":  {"GET", "/v1/parked", ""},
		"replay":  {"POST", "/v1/parked/shop/a/replay", ""},
		"discard": {"DELETE", "/v1/parked/shop/a", ""},
	}
	for name, o := range orders {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			for _, key := range []string{"", "wrong"} {
				if w := r.orderAs(key, o.method, o.path, o.body); codeOf(w) != push.CodeUnauthorized || w.Code != 401 {
					t.Errorf("with the key %q it is answered %d %s, want 401", key, w.Code, w.Body)
				}
			}
			if o.body == "" {
				if w := r.order(o.method, o.path+"?devcie=phone", o.body); codeOf(w) != push.CodeUnknownField {
					t.Errorf("with an unknown parameter it is answered %d %s, want 400 unknown_field", w.Code, w.Body)
				}
			}
			r.store.Close()
			if name == "kick" || name == "nodes" {
				return // nodes alone know
			}
			if w := r.order(o.method, o.path, o.body); codeOf(w) != push.CodeUnavailable || w.Header().Get("Retry-After") == "" {
				t.Errorf("with the store away it is answered %d %s, want 503 with Retry-After", w.Code, w.Body)
			}
		})
	}
}

// TestOtherSenders shows that a key knows nothing of what another key sent.
func TestOtherSenders(t *testing.T) {
	r := newRig(t)
	idOf(t, r.post(`{"id":"a","to":{"all":true},"data":1,"deliver_at":"2030-02-01T00:00:00Z"}`))
	idOf(t, r.post(`{"id":"p","to":{"all":true},"data":1}`))
	anonymous := idOf(t, r.post(`{"to":{"all":true},"data":1,"deliver_at":"2030-02-01T00:00:00Z"}`))
	if _, err := r.store.InsertMessages(t.Context(), []store.Record{{Message: push.Message{
		ID: "webhook/1/rule", To: push.Recipients{All: true}, Data: []byte("1"), CreatedAt: start, ExpiresAt: start.Add(time.Hour)}}}); err != nil {
		t.Fatal(err)
	}
	r.park("shop/p", "webhook/1/rule")
	for _, o := range []struct {
		method, path string
		shop, crm    int
	}{
		{"GET", "/v1/messages/shop/a", 200, 404},
		{"GET", "/v1/messages/" + string(anonymous), 200, 404},
		{"GET", "/v1/messages/webhook/1/rule", 200, 200},
		{"DELETE", "/v1/messages/shop/a", 200, 404},
		{"DELETE", "/v1/messages/" + string(anonymous), 200, 404},
		{"POST", "/v1/parked/shop/p/replay", 202, 404},
		{"DELETE", "/v1/parked/webhook/1/rule", 404, 200}, // crm comes first
	} {
		if w := r.orderAs("other", o.method, o.path, ""); w.Code != o.crm {
			t.Errorf("crm: %s %s is answered %d %s, want %d", o.method, o.path, w.Code, w.Body, o.crm)
		}
		if w := r.order(o.method, o.path, ""); w.Code != o.shop {
			t.Errorf("shop: %s %s is answered %d %s, want %d", o.method, o.path, w.Code, w.Body, o.shop)
		}
	}
	r.park("shop/q", "crm/q")
	wantAnswer(t, "crm's list", r.orderAs("other", "GET", "/v1/parked", ""), 200, `"parked":[{"id":"crm/q"`)
	if w := r.order("GET", "/v1/parked", ""); strings.Contains(w.Body.String(), "crm") {
		t.Errorf("shop's list is %s", w.Body)
	}
}

// park parks messages, one second after the other.
func (r *rig) park(ids ...push.MessageID) {
	r.t.Helper()
	for i, id := range ids {
		if err := r.store.PutOutbox(r.t.Context(), []store.OutboxEntry{{Message: id, DueAt: start, Attempts: 1}}); err != nil {
			r.t.Fatal(err)
		}
		at := start.Add(time.Duration(i) * time.Second)
		if err := r.store.ParkOutbox(r.t.Context(), []store.ParkedEntry{{
			Message: id, Attempts: 12, Reason: "unavailable: no", At: at, Until: at.Add(time.Hour)}}); err != nil {
			r.t.Fatal(err)
		}
	}
}

func TestUser(t *testing.T) {
	r := newRig(t)
	r.nodes.open = map[push.UserID][]push.OpenConnection{"42": {{Node: "n1", Device: "phone", Since: start}}}
	if err := r.store.AdvanceCursors(t.Context(), []store.Cursor{
		{User: "42", Device: "tablet", Channel: "#42", Received: 7, Acknowledged: 5, UpdatedAt: start},
		{User: "42", Device: "phone", Channel: "all", Received: 3, UpdatedAt: start},
		{User: "42", Device: "phone", Channel: "#42", Received: 7, UpdatedAt: start},
		{User: "421", Device: "phone", Channel: "#421", Received: 7, UpdatedAt: start},
	}); err != nil {
		t.Fatal(err)
	}
	const at = `"updated_at":"2030-01-31T09:30:00Z"}`
	wantAnswer(t, "a user", r.order("GET", "/v1/users/42", ""), 200,
		`{"user":"42","connections":[{"node":"n1","device":"phone","since":"2030-01-31T09:30:00Z"}],"devices":[`+
			`{"device":"phone","cursors":[{"channel":"#42","received":7,"acknowledged":0,`+at+`,{"channel":"all","received":3,"acknowledged":0,`+at+`]},`+
			`{"device":"tablet","cursors":[{"channel":"#42","received":7,"acknowledged":5,`+at+`]}]}`)
	wantAnswer(t, "a user nobody knows", r.order("GET", "/v1/users/7", ""), 200, `{"user":"7","connections":[],"devices":[]}`)
	wantAnswer(t, "an odd user", r.order("GET", "/v1/users/"+url.PathEscape("a/b c?ü"), ""), 200, `{"user":"a/b c?ü",`)
	wantAnswer(t, "no user", r.order("GET", "/v1/users/a%2Ab", ""), 422, `"invalid_value"`)
	r.nodes.unanswered = []push.NodeID{"n2"}
	wantAnswer(t, "a part of the truth", r.order("GET", "/v1/users/42", ""), 200, `"unanswered":["n2"]`)
	r.nodes.away = true
	wantAnswer(t, "without Dispatch", r.order("GET", "/v1/users/42", ""), 503, `"unavailable"`)
}

func TestKick(t *testing.T) {
	tests := map[string]struct {
		path   string
		status int
		want   string
		left   int
	}{
		"all of a user's":  {"/v1/users/42/connections", 200, `{"closed":3}`, 0},
		"one device's":     {"/v1/users/42/connections?device=phone", 200, `{"closed":2}`, 1},
		"no such device":   {"/v1/users/42/connections?device=none", 200, `{"closed":0}`, 3},
		"another user's":   {"/v1/users/7/connections", 200, `{"closed":0}`, 3},
		"empty device":     {"/v1/users/42/connections?device=", 400, `"bad_request"`, 3},
		"two devices":      {"/v1/users/42/connections?device=a&device=b", 400, `"bad_request"`, 3},
		"bad device":       {"/v1/users/42/connections?device=a%20b", 422, `"invalid_value"`, 3},
		"unknown argument": {"/v1/users/42/connections?user=7", 400, `"unknown_field"`, 3},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.nodes.open = map[push.UserID][]push.OpenConnection{"42": {{Device: "phone"}, {Device: "phone"}, {}}}
			wantAnswer(t, tt.path, r.order("DELETE", tt.path, ""), tt.status, tt.want)
			if left := len(r.nodes.open["42"]); left != tt.left {
				t.Errorf("%d connections are left, want %d", left, tt.left)
			}
		})
	}
}

func TestRevoke(t *testing.T) {
	hour := start.Add(time.Hour)
	tests := map[string]struct {
		body   string
		status int
		want   string // of the answer
		kept   push.Revocation
	}{
		"a user":                     {`{"user":"42","until":"2030-01-31T11:30:00+01:00"}`, 200, `{"closed":2}`, push.Revocation{User: "42", At: start, Until: hour}},
		"a token":                    {`{"jti":"t1","until":"2030-01-31T10:30:00Z"}`, 200, `{"closed":0}`, push.Revocation{TokenID: "t1", At: start, Until: hour}},
		"for as long as tokens live": {`{"user":"42"}`, 200, `{"closed":2}`, push.Revocation{User: "42", At: start, Until: start.Add(30 * 24 * time.Hour)}},
		"neither":                    {`{"until":"2030-01-31T10:30:00Z"}`, 422, "one of user and jti", push.Revocation{}},
		"both":                       {`{"user":"42","jti":"t1"}`, 422, "one of user and jti", push.Revocation{}},
		"no user":                    {`{"user":""}`, 422, "empty", push.Revocation{}},
		"no token":                   {`{"jti":""}`, 422, "jti must", push.Revocation{}},
		"long token":                 {`{"jti":"` + strings.Repeat("x", 1025) + `"}`, 422, "jti must", push.Revocation{}},
		"in the past":                {`{"user":"42","until":"2030-01-31T09:30:00Z"}`, 422, "until must lie ahead", push.Revocation{}},
		"too far ahead":              {`{"user":"42","until":"2032-01-31T09:30:00Z"}`, 422, "until must lie ahead", push.Revocation{}},
		"no time":                    {`{"user":"42","until":"tomorrow"}`, 422, "until must be a time", push.Revocation{}},
		"unknown field":              {`{"user":"42","device":"phone"}`, 400, `"unknown_field"`, push.Revocation{}},
		"not JSON":                   {`user=42`, 400, `"bad_json"`, push.Revocation{}},
		"far too large":              {`{"user":"` + strings.Repeat("x", 20<<10) + `"}`, 413, `"body_too_large"`, push.Revocation{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.nodes.open = map[push.UserID][]push.OpenConnection{"42": {{}, {}}}
			wantAnswer(t, tt.body, r.order("POST", "/v1/revocations", tt.body), tt.status, tt.want)
			list, err := r.store.ListRevocations(t.Context(), start)
			if err != nil {
				t.Fatal(err)
			}
			var want []push.Revocation
			if tt.kept != (push.Revocation{}) {
				want = []push.Revocation{tt.kept}
			}
			if !slices.Equal(list, want) || !slices.Equal(r.nodes.revoked, want) {
				t.Errorf("kept are %+v and nodes were told %+v, want %+v", list, r.nodes.revoked, want)
			}
		})
	}
	t.Run("Dispatch is away", func(t *testing.T) {
		r := newRig(t)
		r.nodes.away = true
		wantAnswer(t, "a revocation", r.order("POST", "/v1/revocations", `{"user":"42"}`), 503, `"unavailable"`)
		if list, err := r.store.ListRevocations(t.Context(), start); err != nil || len(list) != 1 {
			t.Errorf("kept are %v, %v, want it kept: Auth refuses by it", list, err)
		}
	})
	t.Run("too many", func(t *testing.T) {
		r := newRig(t)
		r.store.full = true
		if w := r.order("POST", "/v1/revocations", `{"user":"42"}`); codeOf(w) != push.CodeTooManyRequests || w.Header().Get("Retry-After") == "" {
			t.Errorf("one too many is answered %d %s, want 429 with Retry-After", w.Code, w.Body)
		}
	})
}
