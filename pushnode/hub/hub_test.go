package hub_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// received is a client that writes down what it was given.
type received struct{ offsets, omitted []push.Offset }

func (r *received) Publish(p *hub.Publication) { r.offsets = append(r.offsets, hub.Offsets(p)...) }

func (r *received) Omit(_ push.Channel, o store.Omission) { r.omitted = append(r.omitted, o.First) }

func entry(ch push.Channel, offset, prev push.Offset) push.Entry {
	return push.Entry{Channel: ch, Offset: offset, Prev: prev, Message: &push.Message{
		ID: push.MessageID(fmt.Sprint(offset)), Data: []byte(`{"n":1}`), ExpiresAt: time.Now().Add(time.Hour),
	}}
}

// live subscribes conn to ch at pos, with nothing to read.
func live(t testing.TB, h *hub.Hub, ch push.Channel, conn hub.Connection, pos push.Offset) *hub.Subscription {
	t.Helper()
	sub := h.Subscribe(ch, conn)
	sub.Start(pos)
	sub.Took(sub.Reading(), hub.Page{End: pos})
	if got := sub.GoLive(); got != hub.Live {
		t.Fatalf("GoLive = %v, want Live", got)
	}
	return sub
}

func TestDeliver(t *testing.T) {
	const ch = push.Channel("#42")
	tests := map[string]struct {
		deliver []push.Entry
		want    []hub.Outcome
		given   []push.Offset
	}{
		"in order":           {[]push.Entry{entry(ch, 11, 10), entry(ch, 12, 11)}, []hub.Outcome{hub.Taken, hub.Taken}, []push.Offset{11, 12}},
		"twice":              {[]push.Entry{entry(ch, 11, 10), entry(ch, 11, 10)}, []hub.Outcome{hub.Taken, hub.Repeat}, []push.Offset{11}},
		"one skipped":        {[]push.Entry{entry(ch, 12, 11), entry(ch, 13, 12)}, []hub.Outcome{hub.Gap, hub.Held}, nil},
		"no predecessor":     {[]push.Entry{entry(ch, 12, 0)}, []hub.Outcome{hub.Gap}, nil},
		"older than we have": {[]push.Entry{entry(ch, 9, 8)}, []hub.Outcome{hub.Repeat}, nil},
		"unknown channel":    {[]push.Entry{entry("news", 9, 8)}, []hub.Outcome{hub.Unknown}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := hub.New(hub.Config{})
			var conn received
			live(t, h, ch, &conn, 10)
			for i, e := range tt.deliver {
				if got, _ := h.Deliver(e); got != tt.want[i] {
					t.Errorf("Deliver(%d after %d) = %v, want %v", e.Offset, e.Prev, got, tt.want[i])
				}
			}
			if !slices.Equal(conn.offsets, tt.given) {
				t.Errorf("given %v, want %v", conn.offsets, tt.given)
			}
		})
	}
}

func TestExpiredIsPassedOver(t *testing.T) {
	h := hub.New(hub.Config{})
	var conn received
	sub := live(t, h, "news", &conn, 10)
	e := entry("news", 11, 10)
	e.Message.ExpiresAt = time.Now().Add(-time.Second)
	if got, _ := h.Deliver(e); got != hub.Taken {
		t.Errorf("Deliver(expired) = %v, want Taken", got)
	}
	h.Deliver(entry("news", 12, 11))
	if want := []push.Offset{12}; !slices.Equal(conn.offsets, want) {
		t.Errorf("given %v, want %v", conn.offsets, want)
	}
	if want := []push.Offset{11}; !slices.Equal(conn.omitted, want) {
		t.Errorf("was told that %v are omitted, want %v", conn.omitted, want)
	}
	if sub.Pos() != 12 {
		t.Errorf("Pos = %d, want 12", sub.Pos())
	}
}

func TestLastUnsubscribeForgetsTheChannel(t *testing.T) {
	h := hub.New(hub.Config{})
	a, b := live(t, h, "news", &received{}, 1), live(t, h, "news", &received{}, 1)
	if h.Unsubscribe(a) {
		t.Error("Unsubscribe of the first of two reports last")
	}
	if h.Unsubscribe(a) {
		t.Error("Unsubscribe twice reports last")
	}
	if !h.Unsubscribe(b) {
		t.Error("Unsubscribe of the last does not report it")
	}
	if got, _ := h.Deliver(entry("news", 2, 1)); got != hub.Unknown {
		t.Errorf("Deliver = %v, want Unknown", got)
	}
	c := h.Subscribe("news", &received{})
	if c.Channel().Registration() <= b.Channel().Registration() {
		t.Errorf("registration %d does not exceed the earlier %d", c.Channel().Registration(), b.Channel().Registration())
	}
}

// world is a channel's log with clients and a network that loses, repeats and
// reorders: what the hub is up against.
type world struct {
	t       *rapid.T
	hub     *hub.Hub
	log     []push.Entry // all that was appended
	flight  []push.Entry // pushed and not yet arrived
	clients []*client
	catch   *hub.Channel // a catch-up that we own
	next    push.Offset  // where its read begins
	page    []push.Entry // what its read returned, not yet handed in
	read    bool
	more    bool
	passes  []func() bool // steps of the passes under way
}

// pass makes one step of a pass under way.
func (w *world) pass() {
	if len(w.passes) > 0 && !w.passes[0]() {
		w.passes = w.passes[1:]
	}
}

type client struct {
	received
	sub   *hub.Subscription
	start push.Offset
	after push.Offset
	page  []push.Entry
	stage int // 0 to read, 1 to hand in, 2 live, 3 gone, 4 to go live
	more  bool
}

const worldChannel = push.Channel("room:7")

// readLog returns at most limit entries above after.
func (w *world) readLog(after push.Offset, limit int) (page []push.Entry, more bool) {
	for _, e := range w.log {
		if e.Offset > after {
			if len(page) == limit {
				return page, true
			}
			page = append(page, e)
		}
	}
	return page, false
}

func pageEnd(after push.Offset, page []push.Entry) push.Offset {
	if n := len(page); n > 0 {
		return page[n-1].Offset
	}
	return after
}

func (w *world) append() {
	prev := push.Offset(0)
	offset := push.Offset(100)
	if n := len(w.log); n > 0 {
		prev = w.log[n-1].Offset
		offset = prev + push.Offset(rapid.IntRange(1, 3).Draw(w.t, "step"))
	}
	e := entry(worldChannel, offset, prev)
	w.log = append(w.log, e)
	for range rapid.IntRange(0, 2).Draw(w.t, "copies") { // lost, once or twice
		w.flight = append(w.flight, e)
	}
}

func (w *world) arrive() {
	if len(w.flight) == 0 {
		return
	}
	i := rapid.IntRange(0, len(w.flight)-1).Draw(w.t, "arrival")
	e := w.flight[i]
	w.flight = slices.Delete(w.flight, i, i+1)
	if outcome, ch := w.hub.Deliver(e); outcome == hub.Gap {
		w.own(ch)
	}
}

func (w *world) own(ch *hub.Channel) {
	if w.catch != nil && w.catch == ch {
		w.t.Fatalf("a second catch-up of one channel")
	}
	w.catch, w.read = ch, false
	w.next, _ = ch.Last()
}

// catchUp makes one step of the catch-up under way.
func (w *world) catchUp() {
	if w.catch == nil {
		return
	}
	if !w.read {
		w.page, w.more = w.readLog(w.next, 3)
		w.read = true
		return
	}
	next, done := w.catch.CaughtUp(w.next, hub.Page{Entries: w.page, End: pageEnd(w.next, w.page), More: w.more})
	w.next, w.read = next, false
	if done {
		w.catch = nil
	}
}

// beat is the slow beat: a channel behind its log catches up.
func (w *world) beat() {
	ch := w.hub.Channel(worldChannel)
	if ch == nil {
		return
	}
	if after, ok := ch.Catch(); ok {
		w.catch, w.next, w.read = ch, after, false
	}
}

func (w *world) join() {
	c := &client{}
	if n := len(w.log); n > 0 {
		c.start = w.log[rapid.IntRange(0, n-1).Draw(w.t, "position")].Offset
	}
	c.sub = w.hub.Subscribe(worldChannel, c)
	c.sub.Start(c.start)
	w.clients = append(w.clients, c)
}

func (c *client) joining() bool { return c.stage < 2 || c.stage == 4 }

// joinLast has a client join that wants what comes from now on, where that needs
// no read.
func (w *world) joinLast() {
	c := &client{stage: 4}
	c.sub = w.hub.Subscribe(worldChannel, c)
	var ok bool
	if c.start, ok = c.sub.StartAtLast(); !ok {
		w.hub.Unsubscribe(c.sub)
		return
	}
	w.clients = append(w.clients, c)
}

// goLive has a client go live that needs no read for it, as far as it knows.
func (w *world) goLive(c *client) {
	switch c.sub.GoLive() {
	case hub.ReadOn:
		c.stage = 0
	case hub.Live:
		c.stage = 2
	case hub.LiveGap:
		c.stage = 2
		w.own(c.sub.Channel())
	}
}

// step makes one step of a client's recovery.
func (w *world) step(c *client) {
	switch c.stage {
	case 4:
		w.goLive(c)
	case 0:
		c.after = c.sub.Reading()
		c.page, c.more = w.readLog(c.after, 3)
		c.stage = 1
	case 1:
		for _, e := range c.page {
			c.offsets = append(c.offsets, e.Offset)
		}
		c.sub.Took(c.after, hub.Page{Entries: c.page, End: pageEnd(c.after, c.page)})
		c.stage = 0
		if !c.more {
			w.goLive(c)
		}
	}
}

func (w *world) leave(c *client) {
	if c.stage == 3 {
		return
	}
	c.stage = 3
	if w.hub.Unsubscribe(c.sub) {
		w.catch = nil
	}
}

func (w *world) check(c *client, whole bool) {
	var want []push.Offset
	for _, e := range w.log {
		if e.Offset > c.start {
			want = append(want, e.Offset)
		}
	}
	if !whole {
		want = want[:min(len(want), len(c.offsets))]
	}
	if !slices.Equal(c.offsets, want) {
		w.t.Fatalf("client from %d was given %v, want %v", c.start, c.offsets, want)
	}
}

// TestOrderUnderAnySchedule: whatever is lost, repeated or reordered on the way
// to the node, and however reads interleave, every client is given exactly the
// channel's entries after its position, in order and once.
func TestOrderUnderAnySchedule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t}
		w.hub = hub.New(hub.Config{
			HoldEntries: rapid.IntRange(1, 4).Draw(t, "hold"),
			Pass:        func(step func() bool) { w.passes = append(w.passes, step) },
			Wide:        rapid.IntRange(1, 4).Draw(t, "wide"),
			Step:        rapid.IntRange(1, 2).Draw(t, "step"),
		})
		pick := func() *client {
			if len(w.clients) == 0 {
				return nil
			}
			return w.clients[rapid.IntRange(0, len(w.clients)-1).Draw(t, "client")]
		}
		t.Repeat(map[string]func(*rapid.T){
			"append":   func(*rapid.T) { w.append() },
			"arrive":   func(*rapid.T) { w.arrive() },
			"arrive2":  func(*rapid.T) { w.arrive() },
			"catchUp":  func(*rapid.T) { w.catchUp() },
			"beat":     func(*rapid.T) { w.beat() },
			"pass":     func(*rapid.T) { w.pass() },
			"join":     func(*rapid.T) { w.join() },
			"joinLast": func(*rapid.T) { w.joinLast() },
			"step": func(*rapid.T) {
				if c := pick(); c != nil {
					w.step(c)
				}
			},
			"leave": func(*rapid.T) {
				if c := pick(); c != nil && rapid.IntRange(0, 5).Draw(t, "leaves") == 0 {
					w.leave(c)
				}
			},
			"": func(*rapid.T) {
				for _, c := range w.clients {
					w.check(c, false)
				}
			},
		})
		w.settle()
	})
}

// settle has a beat come amid everything that is under way, and lets that end:
// then nobody may lack anything.
func (w *world) settle() {
	w.beat()
	for range 10_000 {
		busy := w.catch != nil
		w.catchUp()
		for _, c := range w.clients {
			if c.joining() {
				busy = true
				w.step(c)
			}
		}
		if !busy {
			break
		}
	}
	for len(w.passes) > 0 {
		w.pass()
	}
	for _, c := range w.clients {
		if c.stage == 2 {
			w.check(c, true)
		} else if c.joining() {
			w.t.Fatal("a client never went live")
		}
	}
}

func TestMergeLeavesOutWhatTheReadLeftOut(t *testing.T) {
	h := hub.New(hub.Config{})
	slow := h.Subscribe("news", &received{}) // keeps the hold
	slow.Start(10)
	for _, o := range []push.Offset{11, 12, 13} {
		e := entry("news", o, o-1)
		if o == 11 {
			e.Message.ExpiresAt = time.Now().Add(-time.Second)
		}
		h.Deliver(e)
	}
	page := hub.Page{Entries: []push.Entry{entry("news", 14, 13)}, End: 14, Omitted: []store.Omission{{First: 12, Last: 12}}}
	var got []push.Offset
	for _, e := range slow.Merge(10, page).Entries {
		got = append(got, e.Offset)
	}
	if want := []push.Offset{13, 14}; !slices.Equal(got, want) {
		t.Errorf("Merge = %v, want %v: neither what has expired nor what was omitted", got, want)
	}
}

// A larger one would be given 176 bytes by the allocator.
func TestChannelSize(t *testing.T) {
	if hub.ChannelSize > 160 {
		t.Errorf("a channel takes %d bytes, want at most 160", hub.ChannelSize)
	}
}
