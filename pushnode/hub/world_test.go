package hub_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

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
	page    hub.Page     // what its read returned, not yet handed in
	read    bool
	passes  []func() bool // steps of the passes under way
	now     time.Time
	ending  bool // nothing new happens, and all that is under way is to end

	inbox      *hub.Channel // what a read of the inbox alone is for; nil: none is under way
	inboxAfter push.Offset
	inboxPage  hub.Page
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
	page  hub.Page
	stage int  // 0 to read, 1 to hand in, 2 live, 3 gone, 4 to go live, 5 to ask for the end, 6 to begin there
	later bool // it had its first page: the others come as publications
}

const worldChannel = push.Channel("room:7")

// readLog returns a page of at most limit entries above after, without those that
// have expired; now and then it stops where entries may still appear.
func (w *world) readLog(after push.Offset, limit int) hub.Page {
	p := hub.Page{End: after}
	settled := len(w.log)
	if !w.ending && rapid.IntRange(0, 7).Draw(w.t, "unsettled") == 0 {
		settled = rapid.IntRange(0, len(w.log)).Draw(w.t, "settled")
		p.More, p.Unsettled = true, true
	}
	for _, e := range w.log[:settled] {
		switch {
		case e.Offset <= after:
			continue
		case len(p.Entries)+len(p.Omitted) == limit:
			p.More = true
			return p
		case e.Message.Expired(w.now):
			p.Omitted = append(p.Omitted, store.Omission{First: e.Offset, Last: e.Offset})
		default:
			p.Entries = append(p.Entries, e)
		}
		p.End = e.Offset
	}
	return p
}

func (w *world) append() {
	prev := push.Offset(0)
	offset := push.Offset(100)
	if n := len(w.log); n > 0 {
		prev = w.log[n-1].Offset
		offset = prev + push.Offset(rapid.IntRange(1, 3).Draw(w.t, "step"))
	}
	e := entry(worldChannel, offset, prev)
	e.Message.ExpiresAt = w.now.Add(time.Duration(rapid.SampledFrom([]int{0, 2, 1000}).Draw(w.t, "ttl")) * time.Second)
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
		w.page = w.readLog(w.next, 3)
		w.read = true
		return
	}
	next, done := w.catch.CaughtUp(w.next, w.page)
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

func (c *client) joining() bool { return c.stage != 2 && c.stage != 3 }

// joinNow has a client join that wants what comes from now on, and asks where
// that is.
func (w *world) joinNow() {
	c := &client{stage: 5}
	c.sub = w.hub.Subscribe(worldChannel, c)
	c.start = ^push.Offset(0) // nothing is for it yet
	w.clients = append(w.clients, c)
}

// readInbox makes one step of a read of the inbox alone, which lacks what was
// appended lately.
func (w *world) readInbox() {
	if ch := w.inbox; ch != nil {
		ch.Apply(w.inboxAfter, w.inboxPage)
		w.inbox = nil
		return
	}
	ch := w.hub.Channel(worldChannel)
	if ch == nil {
		return
	}
	if after, ok := ch.Last(); ok {
		w.inbox, w.inboxAfter, w.inboxPage = ch, after, w.readLog(after, rapid.IntRange(0, 3).Draw(w.t, "inbox"))
	}
}

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
		c.page = w.readLog(c.after, 3)
		c.stage = 1
	case 1:
		w.handIn(c)
		c.stage = 0
		if !c.page.More {
			w.goLive(c)
		}
	case 5:
		c.sub.Reading()
		if n := len(w.log); n > 0 {
			c.after = w.log[n-1].Offset
		}
		c.stage = 6
	case 6:
		c.start = c.after
		c.sub.Start(c.after)
		c.sub.Took(c.after, hub.Page{End: c.after})
		w.goLive(c)
	}
}

// handIn gives a client the page that was read for it: the first one in the reply,
// the others as publications.
func (w *world) handIn(c *client) {
	if c.later {
		c.sub.Give(c.after, c.page)
		return
	}
	p := c.sub.Merge(c.after, c.page)
	for _, e := range p.Entries {
		c.offsets = append(c.offsets, e.Offset)
	}
	for _, o := range p.Omitted {
		c.Omit(worldChannel, o)
	}
	c.sub.Took(c.after, p)
	c.later = true
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

// check holds what c was given against the log: each entry behind its start, in
// order and once, but those of which it was told that it is not given them because
// they have expired.
func (w *world) check(c *client, whole bool) {
	var want []push.Offset
	for _, e := range w.log {
		switch {
		case e.Offset <= c.start || !whole && len(want) == len(c.offsets):
		case !slices.Contains(c.omitted, e.Offset):
			want = append(want, e.Offset)
		case !e.Message.Expired(w.now):
			w.t.Fatalf("client from %d was told that %d has expired", c.start, e.Offset)
		}
	}
	if !slices.Equal(c.offsets, want) {
		w.t.Fatalf("client from %d was given %v and told that %v are omitted, want %v", c.start, c.offsets, c.omitted, want)
	}
}

// TestOrderUnderAnySchedule: whatever is lost, repeated or reordered on the way
// to the node, and however reads interleave, every client is given exactly the
// channel's entries after its position, in order and once. A schedule takes part
// of a millisecond, and some mistakes show in one of several hundred: there are ten
// times as many as elsewhere.
func TestOrderUnderAnySchedule(t *testing.T) {
	for range 10 {
		rapid.Check(t, anySchedule)
	}
}

func anySchedule(t *rapid.T) {
	w := &world{t: t, now: time.Now()}
	w.hub = hub.New(hub.Config{
		Now:         func() time.Time { return w.now },
		HoldEntries: rapid.SampledFrom([]int{1, 1, 2, 4}).Draw(t, "hold"),
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
	// What is hard is to be amid something, with several.
	for range rapid.IntRange(0, 3).Draw(t, "before") {
		w.append()
	}
	for range rapid.IntRange(0, 3).Draw(t, "joining") {
		w.join()
	}
	step := func() {
		if c := pick(); c != nil {
			w.step(c)
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"append":   func(*rapid.T) { w.append() },
		"arrive":   func(*rapid.T) { w.arrive() },
		"arrive2":  func(*rapid.T) { w.arrive() },
		"catchUp":  func(*rapid.T) { w.catchUp() },
		"beat":     func(*rapid.T) { w.beat() },
		"pass":     func(*rapid.T) { w.pass() },
		"join":     func(*rapid.T) { w.join() },
		"join2":    func(*rapid.T) { w.join() },
		"joinLast": func(*rapid.T) { w.joinLast() },
		"joinNow":  func(*rapid.T) { w.joinNow() },
		"inbox":    func(*rapid.T) { w.readInbox() },
		"time":     func(*rapid.T) { w.now = w.now.Add(time.Second) },
		"step":     func(*rapid.T) { step() },
		"step2":    func(*rapid.T) { step() },
		"arrive3":  func(*rapid.T) { w.arrive() },
		"step3":    func(*rapid.T) { step() },
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
}

// settle has a beat come amid everything that is under way, and lets that end:
// then nobody may lack anything.
func (w *world) settle() {
	w.ending = true
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
