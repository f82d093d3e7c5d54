package nodeclient

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func keys(t testing.TB, secret string) signature.Keys {
	t.Helper()
	k, err := signature.ParseKeys([]string{secret})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const (
	secretA = "a secret of more than 24 bytes"
	secretB = "another secret of enough bytes"
)

// node serves h at an address of its own, behind the check of signatures, and
// returns the id of a node there.
func node(t *testing.T, h http.HandlerFunc) push.NodeID {
	t.Helper()
	s := httptest.NewServer(signature.Require(signature.NewVerifier(signature.VerifierConfig{}, keys(t, secretA)), 1<<20, h))
	t.Cleanup(s.Close)
	return push.NewNodeID(strings.TrimPrefix(s.URL, "http://"), "one")
}

func client(t *testing.T, secret string) *Client {
	t.Helper()
	cfg := Config{ConnectTime: time.Minute} // however slow this machine is
	c := New(cfg, signature.NewSigner(keys(t, secret)), time.Now, nil)
	t.Cleanup(c.Close)
	return c
}

func TestDeliver(t *testing.T) {
	var got push.DeliverRequest
	id := node(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "POST" || r.URL.Path != "/v1/node/deliver" {
			t.Errorf("request %s %s", r.Method, r.URL.Path)
		}
		if p := serve.Decode(w, r, 1<<20, &got); p != nil {
			serve.Problem(w, r, p)
			return
		}
		serve.JSON(w, 200, push.DeliverAnswer{Node: got.Node, Unknown: []push.Channel{"gone"}})
	})
	req := push.DeliverRequest{
		Messages: []push.Message{{ID: "m1", Data: json.RawMessage(`"<b>"`)}},
		Entries:  []push.DeliverEntry{{Channel: "#42", Offset: 7, Prev: 3}},
	}
	answer, err := client(t, secretA).Deliver(t.Context(), id, req)
	if err != nil || len(answer.Unknown) != 1 || answer.Unknown[0] != "gone" {
		t.Errorf("Deliver = %+v, %v", answer, err)
	}
	if got.Node != id || len(got.Messages) != 1 || string(got.Messages[0].Data) != `"<b>"` || len(got.Entries) != 1 || got.Entries[0].Offset != 7 {
		t.Errorf("the node got %+v", got)
	}
}

func TestDisconnect(t *testing.T) {
	id := node(t, func(w http.ResponseWriter, r *http.Request) {
		var got push.DisconnectRequest
		if p := serve.Decode(w, r, 1<<20, &got); p != nil || got.User != "42" || got.Device != "phone" {
			t.Errorf("the node got %+v, %v", got, p)
		}
		serve.JSON(w, 200, push.DisconnectAnswer{Closed: 3})
	})
	answer, err := client(t, secretA).Disconnect(t.Context(), id, push.DisconnectRequest{User: "42", Device: "phone"})
	if err != nil || answer.Closed != 3 {
		t.Errorf("Disconnect = %+v, %v, want 3 closed", answer, err)
	}
}

func TestInfo(t *testing.T) {
	since := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	id := node(t, func(w http.ResponseWriter, r *http.Request) {
		var got push.InfoRequest
		if p := serve.Decode(w, r, 1<<20, &got); p != nil || got.User != "42" || r.URL.Path != "/v1/node/info" {
			t.Errorf("the node got %+v at %s, %v", got, r.URL.Path, p)
		}
		serve.JSON(w, 200, push.InfoAnswer{Connections: []push.OpenConnection{{Device: "phone", Since: since}}})
	})
	answer, err := client(t, secretA).Info(t.Context(), id, push.InfoRequest{User: "42"})
	if err != nil || len(answer.Connections) != 1 || answer.Connections[0] != (push.OpenConnection{Device: "phone", Since: since}) {
		t.Errorf("Info = %+v, %v", answer, err)
	}
}

func TestRevoke(t *testing.T) {
	want := push.Revocation{TokenID: "t1", At: time.Unix(1, 0).UTC(), Until: time.Unix(2, 0).UTC()}
	id := node(t, func(w http.ResponseWriter, r *http.Request) {
		var got push.RevokeRequest
		if p := serve.Decode(w, r, 1<<20, &got); p != nil || got.Revocation != want || r.URL.Path != "/v1/node/revoke" {
			t.Errorf("the node got %+v at %s, %v", got, r.URL.Path, p)
		}
		serve.JSON(w, 200, push.DisconnectAnswer{Closed: 2})
	})
	answer, err := client(t, secretA).Revoke(t.Context(), id, push.RevokeRequest{Revocation: want})
	if err != nil || answer.Closed != 2 {
		t.Errorf("Revoke = %+v, %v, want 2 closed", answer, err)
	}
}

func TestErrors(t *testing.T) {
	problem := func(p *push.Problem) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { serve.Problem(w, r, p) }
	}
	write := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	tests := map[string]struct {
		handler http.HandlerFunc
		secret  string
		want    error
		not     error
	}{
		"other node":      {problem(push.NewProblem(push.CodeOtherNode, "gone")), secretA, ErrOtherNode, ErrRefused},
		"answers for one": {write(200, `{"node":"127.0.0.1:1~two"}`), secretA, ErrOtherNode, nil},
		"other conflict":  {problem(push.NewProblem(push.CodeConflict, "no")), secretA, ErrRefused, ErrOtherNode},
		"unsigned":        {write(200, `{}`), secretB, ErrRefused, ErrOtherNode},
		"not a problem":   {write(502, `<html>`), secretA, ErrRefused, ErrOtherNode},
		"not JSON":        {write(200, `{`), secretA, ErrAnswer, nil},
		"redirect":        {http.RedirectHandler("http://127.0.0.1:1/", http.StatusTemporaryRedirect).ServeHTTP, secretA, ErrRefused, nil},
		"cut off":         {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, secretA, ErrUnreachable, ErrOtherNode},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := client(t, tt.secret).Deliver(t.Context(), node(t, tt.handler), push.DeliverRequest{})
			if !errors.Is(err, tt.want) || tt.not != nil && errors.Is(err, tt.not) {
				t.Errorf("Deliver: %v, want %v and not %v", err, tt.want, tt.not)
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	tests := map[string]push.NodeID{
		"closed port": push.NewNodeID("127.0.0.1:1", "one"), // which systems give to nobody
		"no address":  "somebody",
		"bad address": push.NewNodeID("a b:%", "one"),
	}
	for name, id := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := client(t, secretA).Deliver(t.Context(), id, push.DeliverRequest{}); !errors.Is(err, ErrUnreachable) {
				t.Errorf("Deliver to %s: %v, want %v", id, err, ErrUnreachable)
			}
		})
	}
}

func TestDeadline(t *testing.T) {
	release := make(chan struct{})
	id := node(t, func(http.ResponseWriter, *http.Request) { <-release })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := client(t, secretA).Deliver(ctx, id, push.DeliverRequest{})
	close(release)
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("Deliver to a node that hangs: %v, want %v", err, ErrTimeout)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`{"node":"a:1~x","unknown":["#42"]}`))
	f.Add(409, []byte(`{"code":"other_node"}`))
	f.Add(500, []byte(`<html>`))
	f.Fuzz(func(t *testing.T, status int, raw []byte) {
		var answer push.DeliverAnswer
		err := decodeAnswer(status, raw, &answer)
		if err == nil && (status != 200 || !json.Valid(raw)) {
			t.Errorf("decodeAnswer(%d, %q) = nil", status, raw)
		}
		if err != nil && !errors.Is(err, ErrAnswer) && !errors.Is(err, ErrRefused) && !errors.Is(err, ErrOtherNode) {
			t.Errorf("decodeAnswer(%d, %q) = %v, which is none of ours", status, raw, err)
		}
	})
}
