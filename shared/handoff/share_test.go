package handoff

import (
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// all hands off each message by a call of its own, all at once, and returns what
// came of them.
func all(t *testing.T, c *Client, list []push.Message) []error {
	errs := make([]error, len(list))
	var calls sync.WaitGroup
	for i := range list {
		calls.Go(func() { errs[i] = c.HandOff(t.Context(), list[i:i+1], false)[0] })
	}
	calls.Wait()
	return errs
}

func TestSingleMessagesShareRequests(t *testing.T) {
	held := make(chan struct{})
	var once sync.Once
	d := newDispatch(t, func(w http.ResponseWriter, r *http.Request, req push.DispatchRequest) {
		once.Do(func() { time.AfterFunc(sharing.Patience/2, func() { close(held) }) })
		<-held
		var a push.DispatchAnswer
		for _, m := range req.Messages {
			result := push.DispatchResult{ID: m.ID}
			if m.ID == "shop/7" {
				result.Problem = push.NewProblem(push.CodeInvalidMessage, "no")
			}
			a.Results = append(a.Results, result)
		}
		serve.JSON(w, 200, a)
	})
	list := messages(100, `1`)
	began := time.Now()
	for i, err := range all(t, newClient(t, d.URL, Config{}), list) {
		if (err != nil) != (i == 7) {
			t.Errorf("message %d: %v, want only the 7th to have a problem", i, err)
		}
	}
	waited := time.Since(began) // each of them no longer
	requests := d.take()
	var got []push.MessageID
	for _, r := range requests {
		for _, m := range r.Messages {
			got = append(got, m.ID)
		}
		if r.Again && waited < stale {
			t.Error("a request says that new messages came again")
		}
	}
	slices.Sort(got)
	if got = slices.Compact(got); len(got) != len(list) || len(requests) > len(list)/3 {
		t.Errorf("%d messages came in %d requests, want %d in few", len(got), len(requests), len(list))
	}
}

// A message for which Dispatch refuses whatever request it is in concerns no
// other.
func TestRefusedRequestIsTakenApart(t *testing.T) {
	d := newDispatch(t, func(w http.ResponseWriter, r *http.Request, req push.DispatchRequest) {
		for _, m := range req.Messages {
			if m.ID == "shop/3" {
				serve.Problem(w, r, push.NewProblem(push.CodeInvalidMessage, "no"))
				return
			}
		}
		confirmAll(w, r, req)
	})
	c := newClient(t, d.URL, Config{})
	for i, err := range c.share(t.Context(), messages(5, `1`), false) {
		if p, refused := errors.AsType[*push.Problem](err); refused != (i == 3) || refused && p.Code != push.CodeInvalidMessage {
			t.Errorf("message %d: %v, want only the third refused", i, err)
		}
	}
	for _, r := range d.take()[1:] {
		if !r.Again || len(r.Messages) != 1 {
			t.Errorf("a request with %d messages follows (again %v), want each alone and said to come again", len(r.Messages), r.Again)
		}
	}
}

// What takes Dispatch long goes by itself.
func TestOnlySmallMessagesShare(t *testing.T) {
	users := make([]push.UserID, smallPlaces)
	tests := map[string]struct {
		message push.Message
		want    bool
	}{
		"one user":   {push.Message{Data: []byte(`1`), To: push.Recipients{Users: users[:1]}}, true},
		"some users": {push.Message{Data: []byte(`1`), To: push.Recipients{Users: users[:smallPlaces-1]}}, true},
		"many users": {push.Message{Data: []byte(`1`), To: push.Recipients{Users: users}}, false},
		"everybody":  {push.Message{Data: []byte(`1`), To: push.Recipients{All: true}}, true},
		"large data": {push.Message{Data: make([]byte, smallData+1), To: push.Recipients{Users: users[:1]}}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := small(&tt.message); got != tt.want {
				t.Errorf("small = %v, want %v", got, tt.want)
			}
		})
	}
}

// Requests that Dispatch does not answer hold up nobody but those in them.
func TestNobodyWaitsForOthersForLong(t *testing.T) {
	release := make(chan struct{})
	var there sync.WaitGroup // the messages that hang
	d := newDispatch(t, func(w http.ResponseWriter, r *http.Request, req push.DispatchRequest) {
		if string(req.Messages[0].Data) == `"hang"` {
			there.Add(-len(req.Messages))
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		confirmAll(w, r, req)
	})
	c := newClient(t, d.URL, Config{Deadline: 30 * time.Second})
	hanging := messages(sharing.Lanes+3, `"hang"`)
	there.Add(len(hanging))
	var stuck sync.WaitGroup
	for i := range hanging {
		stuck.Go(func() { c.HandOff(t.Context(), hanging[i:i+1], false) })
	}
	there.Wait()
	for i := range 20 {
		one := messages(1, `1`)
		one[0].ID = push.MessageID("shop/free" + string(rune('a'+i)))
		began := time.Now()
		if errs := c.HandOff(t.Context(), one, false); errs[0] != nil || time.Since(began) > 10*time.Second {
			t.Errorf("beside what hangs: %v after %v", errs, time.Since(began))
		}
	}
	close(release)
	stuck.Wait()
}

// What has waited for long may have been handed off by the outbox meanwhile.
func TestWhatWaitedIsSaidToComeAgain(t *testing.T) {
	d := newDispatch(t, confirmAll)
	list := messages(3, `1`)
	now := time.Now()
	young := now.Add(time.Minute) // however slow this machine is
	offers := []offer{{list[0], young}, {list[1], now.Add(-2 * stale)}, {list[2], young}}
	errs, err := newClient(t, d.URL, Config{}).together(t.Context(), offers)
	if err != nil || errors.Join(errs...) != nil {
		t.Fatal(errs, err)
	}
	got := make(map[push.MessageID]bool)
	for _, r := range d.take() {
		for _, m := range r.Messages {
			got[m.ID] = r.Again
		}
	}
	for i, m := range list {
		if again, came := got[m.ID]; !came || again != (i == 1) {
			t.Errorf("message %d came %v, again %v; want only the one that waited said to come again", i, came, again)
		}
	}
}
