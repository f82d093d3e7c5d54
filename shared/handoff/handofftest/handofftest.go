// Package handofftest is what every way to Dispatch does alike. It runs on the
// ways of package handoff with a server that speaks as AWS does, and on
// LocalStack.
package handofftest

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
)

// patience is how long a queue may take to deliver.
const patience = time.Minute

// A Client hands messages off, as handoff.Client does.
type Client interface {
	HandOff(ctx context.Context, messages []push.Message, again bool) []error
}

// A Way leads to a Dispatch that confirms whatever it gets.
type Way struct {
	// New returns a client whose requests have maxBody bytes at most, unless that
	// is 0. It is closed when the test ends.
	New func(t *testing.T, maxBody int) Client
	// Take returns the requests that Dispatch has got since the last call, in
	// their order.
	Take func() []push.DispatchRequest
	// Unordered says that requests may overtake one another. Within one, messages
	// keep their order on every way.
	Unordered bool
	// Rewritten says that JSON may arrive in other characters than it was sent
	// in, if it means the same: what queues refuse goes to them escaped, and
	// LocalStack's write all of it anew.
	Rewritten bool
}

// same reports whether data arrived as it was sent.
func (w *Way) same(got, sent json.RawMessage) bool {
	if string(got) == string(sent) {
		return true
	}
	var a, b any
	return w.Rewritten && json.Unmarshal(got, &a) == nil && json.Unmarshal(sent, &b) == nil && reflect.DeepEqual(a, b)
}

// Messages returns n messages of one sender with the same data, which is JSON.
// The name makes their ids their own.
func Messages(name string, n int, data string) []push.Message {
	list := make([]push.Message, n)
	for i := range list {
		list[i] = push.Message{ID: push.MessageID(fmt.Sprintf("shop/%s%d", name, i)), Data: json.RawMessage(data),
			To: push.Recipients{Users: []push.UserID{"42"}}, CreatedAt: time.Now().UTC(), ExpiresAt: time.Now().Add(time.Hour).UTC()}
	}
	return list
}

// Run hands off what is small, large, much and strange, and wants every message
// to arrive once, as it was and in order.
func Run(t *testing.T, way Way) {
	tests := map[string]struct {
		messages []push.Message
		again    bool
		maxBody  int
		requests int // 0: as many as it takes
	}{
		"one":                {Messages("one", 1, `"<x>"`), false, 0, 1},
		"again":              {Messages("again", 1, `1`), true, 0, 1},
		"many at once":       {Messages("many", 1000, `{"a":"b"}`), false, 0, 1},
		"in parts, in order": {Messages("parts", 5, `"`+strings.Repeat("x", 1000)+`"`), false, 2700, 3},
		"more than one item": {Messages("items", 20, `"`+strings.Repeat(`\"`, 30_000)+`"`), false, 0, 0},
		"strange characters": {Messages("strange", 1, `"\u0000\u2028 é 漢 \ud83d\ude00 😀"`), false, 0, 1},
		"no characters":      {Messages("none", 2, "\"\\\\\ufffe \uffff \U0001ffff\""), false, 0, 1},
		"none":               {nil, false, 0, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for i, err := range way.New(t, tt.maxBody).HandOff(t.Context(), tt.messages, tt.again) {
				if err != nil {
					t.Errorf("message %d: %v", i, err)
				}
			}
			got := await(way, len(tt.messages))
			if tt.requests > 0 && len(got) != tt.requests {
				t.Errorf("%d requests, want %d", len(got), tt.requests)
			}
			check(t, &way, got, tt.messages, tt.again)
		})
	}
}

// await returns the requests that bring n messages, or what has come when
// patience ends.
func await(way Way, n int) []push.DispatchRequest {
	got := way.Take()
	end := time.NewTimer(patience)
	defer end.Stop()
	beat := time.NewTicker(20 * time.Millisecond)
	defer beat.Stop()
	for count(got) < n {
		select {
		case <-end.C:
			return got
		case <-beat.C:
			got = append(got, way.Take()...)
		}
	}
	return got
}

func count(requests []push.DispatchRequest) int {
	n := 0
	for _, r := range requests {
		n += len(r.Messages)
	}
	return n
}

// check wants each of the messages once, in order at least within a request.
func check(t *testing.T, way *Way, requests []push.DispatchRequest, messages []push.Message, again bool) {
	t.Helper()
	place := make(map[push.MessageID]int)
	for i, m := range messages {
		place[m.ID] = i
	}
	last, seen := -1, 0
	for _, r := range requests {
		if way.Unordered {
			last = -1
		}
		if r.Again != again {
			t.Errorf("a request says again %v, want %v", r.Again, again)
		}
		for _, m := range r.Messages {
			i, known := place[m.ID]
			if !known || i <= last {
				t.Fatalf("message %s arrived behind number %d; sent and not here before: %v", m.ID, last, known)
			}
			if !way.same(m.Data, messages[i].Data) {
				t.Fatalf("the data of message %s arrived as %.200s, want %.200s", m.ID, m.Data, messages[i].Data)
			}
			last = i
			seen++
			delete(place, m.ID)
		}
	}
	if seen != len(messages) {
		t.Errorf("%d messages arrived, want %d", seen, len(messages))
	}
}
