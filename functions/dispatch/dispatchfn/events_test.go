package dispatchfn_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

func item(t *testing.T, again bool, messages ...*push.Message) serve.QueueItem {
	t.Helper()
	req := push.DispatchRequest{}
	for _, m := range messages {
		req.Messages = append(req.Messages, *m)
	}
	body, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	return serve.QueueItem{Body: body, Again: again}
}

func TestTakeQueue(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	n := c.node(route("#42", 1), route("news", 2))
	m1, m2 := message("m1", toUsers("42")), message("m2", push.Recipients{Channels: []push.Channel{"news"}})
	m3, bad := message("m3", toUsers("42")), message("bad", push.Recipients{Users: []push.UserID{"{42}"}})
	errs := c.TakeQueue(t.Context(), []serve.QueueItem{
		item(t, false, m1, m2),
		{Body: []byte(`poison`)},
		item(t, false, m3),
		item(t, false),
		item(t, false, bad),
	})
	for i, want := range []string{"", "bad_json", "", "bad_request", "invalid_message"} {
		if (errs[i] == nil) != (want == "") || (want != "" && !strings.Contains(errs[i].Error(), want)) {
			t.Errorf("item %d: %v, want %q", i, errs[i], want)
		}
	}
	if got := names(n.got()); got != "#42:m1 news:m2 #42:m3" || n.count() != 1 {
		t.Errorf("the node got %q in %d requests, want three messages in one", got, n.count())
	}

	// Delivered again, it changes nothing, beside a new one that does.
	again := c.inbox("#42", "m1")
	for i, err := range c.TakeQueue(t.Context(), []serve.QueueItem{item(t, false, message("m4", toUsers("42"))), item(t, true, m1, m2)}) {
		if err != nil {
			t.Errorf("item %d, again: %v", i, err)
		}
	}
	if c.inbox("#42", "m1") != again || len(c.log("#42")) != 3 {
		t.Errorf("m1 moved from %d to %d, the log holds %d; want it where it was and 3", again, c.inbox("#42", "m1"), len(c.log("#42")))
	}
}

func TestTakeQueueWithoutRedis(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{Deadline: 500 * time.Millisecond}, nil)
	c.redis.Stop()
	errs := c.TakeQueue(t.Context(), []serve.QueueItem{item(t, false, message("m1", toUsers("42"))), item(t, true, message("m2", toUsers("42")))})
	for i, err := range errs {
		if p, ok := errors.AsType[*push.Problem](err); !ok || p.Code != push.CodeUnavailable {
			t.Errorf("item %d: %v, want it unavailable", i, err)
		}
	}
}

func TestRunSchedule(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{OutboxLimit: 2}, nil)
	n := c.node(route("#42", 1))
	old, m1, m2, m3 := message("old", toUsers("42")), message("m1", toUsers("42")), message("m2", toUsers("42")), message("m3", toUsers("42"))
	old.ExpiresAt = time.Now().Add(-2 * push.RepeatWindow)
	c.insert(old, m1, m2, m3)
	c.put(-time.Second, m1, m2, m3)
	if err := c.RunSchedule(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(n.got()) != 3 || len(c.waiting()) != 0 {
		t.Errorf("the node got %q and %d wait, want all three and none", names(n.got()), len(c.waiting()))
	}
	left, err := c.store.LoadMessages(t.Context(), []push.MessageID{"old", "m1"})
	if err != nil || len(left) != 1 {
		t.Errorf("%d of the old and the new message are left (%v), want the new one", len(left), err)
	}
	c.redis.Stop()
	if err := c.RunSchedule(t.Context()); err == nil {
		t.Error("RunSchedule without Redis is no error")
	}
}
