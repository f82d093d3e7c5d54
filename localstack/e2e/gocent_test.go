package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/centrifugal/gocent/v3"

	"pushcluster/localstack/stack"
)

// newGocent returns Centrifugo's own library for Go, pointed at Collect.
func newGocent(t *testing.T, s *stack.Stack, key string) *gocent.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return gocent.New(gocent.Config{Addr: s.Collect.URL + "/api", Key: key, HTTPClient: &http.Client{Transport: transport, Timeout: time.Minute}})
}

// codeOf returns the code of an error that gocent was answered, 0 if there is
// none.
func codeOf(err error) int {
	if answered, ok := errors.AsType[*gocent.Error](err); ok {
		return answered.Code
	}
	return 0
}

// A system that was written for Centrifugo publishes through its library: what
// it sends arrives, what it orders happens, and what there is not here it hears.
func TestGocent(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	cent := newGocent(t, s, s.APIKey())
	ann := newPerson(t, s.Node(0).URL, come{token: tokenOf(t, s, "ann", "news"), device: "phone"}).connected()
	ben := newPerson(t, s.Node(1).URL, come{token: tokenOf(t, s, "ben"), protobuf: true}).connected()
	ann.follow("news")

	if _, err := cent.Publish(ctx, "#ann", []byte(`{"n":1}`)); err != nil {
		t.Fatal(err)
	}
	ann.receives(`{"n":1}`)
	result, err := cent.Broadcast(ctx, []string{"#ann", "#ben", "bad*"}, []byte(`"both"`))
	if err != nil || len(result.Responses) != 3 || result.Responses[0].Error != nil || result.Responses[1].Error != nil || result.Responses[2].Error == nil {
		t.Fatalf("Broadcast = %+v, %v, want an error for the third alone", result, err)
	}
	ann.receives(`{"n":1}`, `"both"`)
	ben.receives(`"both"`)

	// Ben is subscribed by the server, from before the last message on, and out again.
	if err := cent.Subscribe(ctx, "news", "ben", gocent.WithPresence(true), gocent.WithRecover(true), gocent.WithSubscribeData([]byte(`{"why": "invited"}`))); err != nil {
		t.Fatal(err)
	}
	send := func(pipe *gocent.Pipe) []gocent.Reply {
		t.Helper()
		replies, err := cent.SendPipe(ctx, pipe)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range replies {
			if r.Error != nil {
				t.Errorf("command %d of the pipe: %v", i, r.Error)
			}
		}
		return replies
	}
	pipe := cent.Pipe()
	for n := range 3 {
		if err := pipe.AddPublish("news", fmt.Appendf(nil, "%d", n), gocent.WithSkipHistory(true)); err != nil {
			t.Fatal(err)
		}
	}
	send(pipe)
	ben.receives(`"both"`, "0", "1", "2") // before he is out: a node may have to read what it gives
	pipe = cent.Pipe()
	pipe.AddUnsubscribe("news", "ben")
	pipe.AddPublish("news", []byte("3"))
	pipe.AddPublish("#ben", []byte(`"done"`))
	pipe.AddInfo()
	replies := send(pipe)
	var info gocent.InfoResult
	if err := json.Unmarshal(replies[3].Result, &info); err != nil || len(info.Nodes) != 2 {
		t.Fatalf("info = %s, want two nodes", replies[3].Result)
	}
	if got := info.Nodes[0].NumClients + info.Nodes[1].NumClients; got != 2 {
		t.Errorf("info counts %d clients, want 2", got)
	}
	ann.receives(`{"n":1}`, `"both"`, "0", "1", "2", "3")
	ben.receives(`"both"`, "0", "1", "2", `"done"`)

	// 4000 to 4499 come back, 4500 to 4999 stay away.
	if err := cent.Disconnect(ctx, "ann", gocent.WithDisconnect(&gocent.Disconnect{Code: 4100, Reason: "come back"})); err != nil {
		t.Fatal(err)
	}
	ann.hears("connecting 4100")
	if err := cent.Disconnect(ctx, "ben", gocent.WithDisconnect(&gocent.Disconnect{Code: 4600, Reason: "stay away"})); err != nil {
		t.Fatal(err)
	}
	ben.hears("disconnected 4600")
	ann.connected()
	if err := cent.Disconnect(ctx, "ann"); err != nil {
		t.Fatal(err)
	}
	ann.hears("disconnected 3503")
}

// TestGocentRefused is what gocent hears where there is nothing to be had.
func TestGocentRefused(t *testing.T) {
	s := start(t)
	cent := newGocent(t, s, s.APIKey())
	tests := map[string]struct {
		ask  func(context.Context) error
		want int
	}{
		"presence": {func(ctx context.Context) error { _, err := cent.Presence(ctx, "news"); return err }, 108},
		"stats":    {func(ctx context.Context) error { _, err := cent.PresenceStats(ctx, "news"); return err }, 108},
		"history":  {func(ctx context.Context) error { _, err := cent.History(ctx, "news", gocent.WithLimit(1)); return err }, 108},
		"remove":   {func(ctx context.Context) error { return cent.HistoryRemove(ctx, "news") }, 108},
		"channels": {func(ctx context.Context) error { _, err := cent.Channels(ctx); return err }, 108},
		"no channel": {func(ctx context.Context) error {
			_, err := cent.Publish(ctx, "", []byte("1"))
			return err
		}, 107},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := tt.ask(t.Context()); codeOf(err) != tt.want {
				t.Errorf("answered %v, want the error %d", err, tt.want)
			}
		})
	}
	var status gocent.ErrStatusCode
	if _, err := newGocent(t, s, "wrong").Publish(t.Context(), "news", []byte("1")); !errors.As(err, &status) || status.Code != 401 {
		t.Errorf("a wrong key is answered %v, want status 401", err)
	}
}
