package dispatchfn_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

func TestDeliver(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	n1 := c.node(route("#42", 1), route("all", 2))
	n2 := c.node(route("#42", 1), route("news", 2), route("all", 3))
	m1 := message("m1", push.Recipients{Users: []push.UserID{"42", "7"}, Channels: []push.Channel{"news"}})
	m2 := message("m2", push.Recipients{All: true})
	m3 := message("m3", toUsers("42"))
	c.send(false, m1, m2, m3)

	if got, want := names(n1.got()), "#42:m1 all:m2 #42:m3"; got != want {
		t.Errorf("node 1 got %q, want %q", got, want)
	}
	if got, want := names(n2.got()), "#42:m1 news:m1 all:m2 #42:m3"; got != want {
		t.Errorf("node 2 got %q, want %q", got, want)
	}
	if n1.count() != 1 || n2.count() != 1 {
		t.Errorf("the nodes got %d and %d requests, want one each", n1.count(), n2.count())
	}
	got := n1.got()
	if got[2].Prev != got[0].Offset || got[0].Prev != 0 {
		t.Errorf("entries %+v and %+v do not follow one another", got[0], got[2])
	}
	if !got[0].Message.To.IsZero() || string(got[0].Message.Data) != `"m1"` {
		t.Errorf("the node got message %+v, want it without recipients", got[0].Message)
	}
	for _, want := range []struct {
		channel push.Channel
		id      push.MessageID
	}{{"#42", "m1"}, {"#7", "m1"}, {"news", "m1"}, {"all", "m2"}, {"#42", "m3"}} {
		if c.inbox(want.channel, want.id) == 0 {
			t.Errorf("the inbox of %s does not have %s", want.channel, want.id)
		}
	}
	if c.inbox("#42", "m1") != got[0].Offset {
		t.Errorf("the inbox has m1 at %d, the node at %d", c.inbox("#42", "m1"), got[0].Offset)
	}
	if m1.To.IsZero() {
		t.Error("Dispatch changed a message")
	}
}

// A repeat changes nothing, and is pushed again at its place, because its first
// try may have died before the push.
func TestRepeat(t *testing.T) {
	for name, again := range map[string]bool{"not marked": false, "marked": true} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, dispatchfn.Config{}, nil)
			n := c.node(route("#42", 1))
			m := message("m1", toUsers("42"))
			c.send(false, m)
			c.send(again, m)
			got := n.got()
			if len(got) != 2 || got[0].Offset != got[1].Offset || len(c.log("#42")) != 1 {
				t.Errorf("the node got %v, the log holds %d; want the same place twice, once in the log", got, len(c.log("#42")))
			}
		})
	}
}

func TestAgainAfterALoss(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	known, lost := message("known", toUsers("42")), message("lost", toUsers("42", "7"))
	c.send(false, known)
	// known was placed long before the loss.
	old := c.inbox("#42", "known") - push.OffsetAt(time.UnixMilli(0).Add(time.Hour))
	if _, err := c.store.WriteInbox(t.Context(), []store.InboxEntry{
		{Channel: "#old", Offset: old, Message: "known", ExpiresAt: known.ExpiresAt}}); err != nil {
		t.Fatal(err)
	}
	known.To = toUsers("old")
	c.redis.FlushAll()
	n := c.node(route("#old", 1), route("#42", 2))
	c.send(true, known, lost)
	if got := c.inbox("#old", "known"); got != old || len(c.log("#old")) != 0 {
		t.Errorf("known moved from %d to %d, its log has %d", old, got, len(c.log("#old")))
	}
	if c.inbox("#42", "lost") == 0 || c.inbox("#7", "lost") == 0 || len(c.log("#42")) != 1 {
		t.Error("lost is not in log and inbox")
	}
	if got := n.got(); names(got) != "#42:lost #old:known" && names(got) != "#old:known #42:lost" {
		t.Errorf("the node got %q, want both", names(got))
	}
	if got := c.metric("dispatch_repeats_total", "inbox"); got != 1 {
		t.Errorf("%v repeats were known by the inbox, want 1", got)
	}
}

// Dispatch died between the inbox write and its look at the term, and Redis
// lost its memory at that moment: readers may have passed the place.
func TestAgainWhereReadersMayHavePassed(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	m := message("m1", toUsers("42"))
	c.send(false, m)
	before := c.inbox("#42", "m1")
	c.redis.FlushAll()
	c.send(true, m)
	after := c.inbox("#42", "m1")
	term, err := c.reg.Term(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if log := c.log("#42"); after <= term.Floor || len(log) != 1 || log[0].Offset != after {
		t.Errorf("m1 went from %d to %d with floor %d, log %v; want it in the new term", before, after, term.Floor, log)
	}
	c.send(true, m) // the next repeat finds nothing to do
	if got := c.inbox("#42", "m1"); got != after {
		t.Errorf("the next repeat moved m1 from %d to %d", after, got)
	}
}

// Redis loses its memory between the append and the inbox write, and nobody sees
// that before it is written: whoever reads in the next term finds it.
func TestTermEndsUnseen(t *testing.T) {
	var once sync.Once
	c := newCluster(t, dispatchfn.Config{}, func(c *cluster, st store.Store) dispatchfn.Store {
		return faultyStore{st, func() error {
			once.Do(c.redis.FlushAll)
			return nil
		}}
	})
	m1, m2 := message("m1", toUsers("42", "7")), message("m2", toUsers("42"))
	c.insert(m1, m2)
	c.send(false, m1, m2)
	reader := &follower{c: c, seen: map[push.MessageID]int{}}
	if err := reader.step(t.Context(), "#42"); err != nil {
		t.Fatal(err)
	}
	if reader.seen["m1"] != 1 || reader.seen["m2"] != 1 {
		t.Errorf("a reader of the new term saw %v, want m1 and m2 once", reader.seen)
	}
}

// Redis loses its memory between the append and the inbox write, and another process
// begins the next term meanwhile.
func TestTermChangesWhileTheInboxIsWritten(t *testing.T) {
	var once sync.Once
	var other *cluster
	c := newCluster(t, dispatchfn.Config{}, func(c *cluster, st store.Store) dispatchfn.Store {
		return faultyStore{st, func() error {
			once.Do(func() {
				c.redis.FlushAll()
				if _, err := other.reg.Term(t.Context()); err != nil { // the next one begins
					t.Error(err)
				}
			})
			return nil
		}}
	})
	other = c.elsewhere(c.redis)
	c.send(false, message("m1", toUsers("42", "7")), message("m2", toUsers("42")))
	term, err := c.reg.Term(t.Context())
	if err != nil || term.Number != 2 {
		t.Fatalf("Term = %+v, %v, want the second", term, err)
	}
	log := c.log("#42")
	if names(log) != "#42:m1 #42:m2" || names(c.log("#7")) != "#7:m1" {
		t.Fatalf("the logs of the new term hold %q and %q", names(log), names(c.log("#7")))
	}
	for _, e := range append(log, c.log("#7")...) {
		if got := c.inbox(e.Channel, e.Message.ID); got != e.Offset || got <= term.Floor {
			t.Errorf("%s of %s is at %d in the inbox, %d in the log, floor %d", e.Message.ID, e.Channel, got, e.Offset, term.Floor)
		}
	}
	if got := c.metric("dispatch_appended_again_total", "term"); got != 3 {
		t.Errorf("%v places were appended again, want 3", got)
	}
}

// Another message holds the offset in the inbox, as it never should.
func TestTakenOffset(t *testing.T) {
	var once sync.Once
	var c *cluster
	c = newCluster(t, dispatchfn.Config{}, func(_ *cluster, st store.Store) dispatchfn.Store {
		return faultyStore{st, func() (err error) {
			once.Do(func() {
				at := c.log("#42")[0].Offset
				_, err = st.WriteInbox(t.Context(), []store.InboxEntry{
					{Channel: "#42", Offset: at, Message: "other", ExpiresAt: time.Now().Add(time.Hour)}})
			})
			return err
		}}
	})
	c.send(false, message("m1", toUsers("42")))
	if mine, other := c.inbox("#42", "m1"), c.inbox("#42", "other"); mine <= other {
		t.Errorf("m1 is at %d, the other at %d", mine, other)
	}
}

func TestStaleRoutes(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	good := c.node(route("#1", 1))
	tests := map[string]struct {
		prepare func(n *node)
		channel push.Channel
		left    bool // the route is still there
		reason  string
	}{
		"unknown channel": {func(n *node) { n.unknown["#a"] = true }, "#a", false, "unknown_channel"},
		"other node": {func(n *node) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.id = push.NewNodeID(n.id.Addr(), "second")
		}, "#b", false, "other_node"},
		"unreachable": {func(n *node) { n.server.Close() }, "#c", true, ""},
		"lease gone": {func(n *node) {
			if err := c.reg.Release(t.Context(), n.id); err != nil {
				t.Fatal(err)
			}
		}, "#d", true, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := c.node(route(tt.channel, 5))
			tt.prepare(n)
			user, _ := tt.channel.User()
			c.send(false, message("m "+name, toUsers(user, "1")))
			if left := c.routes(tt.channel) != ""; left != tt.left {
				t.Errorf("routes of %s: %q, want one: %v", tt.channel, c.routes(tt.channel), tt.left)
			}
			if tt.reason != "" && c.metric("dispatch_routes_removed_total", tt.reason) != 1 {
				t.Errorf("no removed route is counted as %s", tt.reason)
			}
		})
	}
	if len(good.got()) != len(tests) {
		t.Errorf("the good node got %d entries, want %d", len(good.got()), len(tests))
	}
}

// A route that was registered again meanwhile is not removed.
func TestStaleRouteIsFenced(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	n := c.node(route("#42", 5))
	n.unknown["#42"] = true
	n.hang = make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { c.send(false, message("m1", toUsers("42"))) })
	for len(c.log("#42")) == 0 { // appended: the old registration is on its way
	}
	n.add(route("#42", 6))
	close(n.hang)
	wg.Wait()
	if got, want := c.routes("#42"), string(n.id)+"/6"; got != want {
		t.Errorf("routes %q, want %q", got, want)
	}
}

func TestSlowNode(t *testing.T) {
	const pushTime = 3 * time.Second // which the good node has, too, on whatever machine
	c := newCluster(t, dispatchfn.Config{PushTime: pushTime, SkipTime: time.Minute}, nil)
	slow, good := c.node(route("#42", 1)), c.node(route("#42", 1))
	slow.hang = make(chan struct{})
	t.Cleanup(func() { close(slow.hang) })
	start := time.Now()
	c.send(false, message("m1", toUsers("42")))
	if took := time.Since(start); took < pushTime {
		t.Errorf("the answer came after %v, before the deadline of a node that hangs", took)
	}
	c.send(false, message("m2", toUsers("42"))) // it is not waited for again: counted below
	if got := names(good.got()); got != "#42:m1 #42:m2" {
		t.Errorf("the other node got %q", got)
	}
	for reason, want := range map[string]float64{"timeout": 1, "slow_node": 1} {
		if got := c.metric("dispatch_entries_not_pushed_total", reason); got != want {
			t.Errorf("not pushed for %s: %v, want %v", reason, got, want)
		}
	}
	if c.routes("#42") == "" {
		t.Error("the slow node's route was removed")
	}
}

// A node that missed something is told, with the next request, to look for
// itself; once.
func TestMissedNodeIsToldToBeat(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{PushTime: 3 * time.Second, SkipTime: time.Nanosecond}, nil)
	n := c.node(route("#42", 1))
	c.send(false, message("m1", toUsers("42")))
	n.mu.Lock()
	n.hang = make(chan struct{})
	n.mu.Unlock()
	c.send(false, message("m2", toUsers("42")))
	n.mu.Lock()
	n.requests = n.requests[:1] // m2 was lost on the way
	close(n.hang)
	n.hang = nil
	n.mu.Unlock()
	c.send(false, message("m3", toUsers("42")))
	c.send(false, message("m4", toUsers("42")))
	beats := map[push.MessageID]bool{}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.requests {
		beats[r.Messages[0].ID] = r.Beat
	}
	if beats["m1"] || !beats["m3"] || beats["m4"] {
		t.Errorf("beats were asked for with %v, want with m3 alone", beats)
	}
}

func TestExpired(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	n := c.node(route("#42", 1))
	m := message("m1", toUsers("42"))
	m.ExpiresAt = time.Now().Add(-time.Second)
	if _, err := c.reg.Term(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.send(false, m, message("m2", toUsers("42")))
	if got := names(n.got()); got != "#42:m2" {
		t.Errorf("the node got %q, want m2 alone", got)
	}
}

func TestPartsAreAway(t *testing.T) {
	var away bool
	c := newCluster(t, dispatchfn.Config{}, func(_ *cluster, st store.Store) dispatchfn.Store {
		return faultyStore{st, func() error {
			if away {
				return errors.New("away")
			}
			return nil
		}}
	})
	unavailable := func(when string, m *push.Message) {
		t.Helper()
		if p := c.Dispatch(t.Context(), []*push.Message{m}, false)[0]; p == nil || p.Code != push.CodeUnavailable {
			t.Errorf("%s: %v, want %s", when, p, push.CodeUnavailable)
		}
	}
	n := c.node(route("#42", 1))
	m1, m2 := message("m1", toUsers("42")), message("m2", toUsers("42"))
	away = true
	unavailable("without store", m1)
	away = false
	c.send(true, m1)
	if got := n.got(); len(got) != 2 || got[0].Offset != got[1].Offset {
		t.Errorf("the node got %v, want m1 at one place, pushed again", got)
	}
	c.redis.Stop()
	unavailable("without Redis", m2)
	c.redis.Start()
	n = c.node(route("#42", 2))
	c.send(true, m2)
	if got := names(n.got()); got != "#42:m2" {
		t.Errorf("the node got %q, want m2", got)
	}
}

func TestOneBadMessageSinksNoOther(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{}, nil)
	bad := []*push.Message{
		message("", toUsers("42")),
		message("nobody", push.Recipients{}),
		message("name", toUsers("4{2")),
		{ID: "empty", To: toUsers("42"), ExpiresAt: time.Now().Add(time.Hour)},
	}
	problems := c.Dispatch(t.Context(), append(bad, message("good", toUsers("42"))), false)
	for i := range bad {
		if problems[i] == nil || problems[i].Code != push.CodeInvalidMessage {
			t.Errorf("message %q: %v, want %s", bad[i].ID, problems[i], push.CodeInvalidMessage)
		}
	}
	if problems[len(bad)] != nil || c.inbox("#42", "good") == 0 {
		t.Errorf("the good message: %v", problems[len(bad)])
	}
}

func TestLargeRequestsGoInParts(t *testing.T) {
	c := newCluster(t, dispatchfn.Config{BatchItems: 5}, nil)
	n := c.node(route("#42", 1))
	var messages []*push.Message
	want := ""
	for i := range 12 {
		messages = append(messages, message(fmt.Sprint("m", i), toUsers("42", "7")))
		want += fmt.Sprintf(" #42:m%d", i)
	}
	c.send(false, messages...)
	if got := " " + names(n.got()); got != want {
		t.Errorf("the node got %q, want %q", got, want)
	}
}
