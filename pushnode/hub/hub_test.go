package hub_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

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

// leftOut is what a read returned that found one entry, which it left out.
func leftOut(offset push.Offset) hub.Page {
	return hub.Page{End: offset, Omitted: []store.Omission{{First: offset, Last: offset}}}
}

// A connection that joins behind what a read has left out and the channel has not
// passed is told of it once it has.
func TestJoiningBehindWhatALaterReadTells(t *testing.T) {
	h := hub.New(hub.Config{})
	far := h.Subscribe("news", &received{})
	far.Took(12, leftOut(13))
	ch := far.Channel()
	live(t, h, "news", &received{}, 10)
	ch.Apply(10, leftOut(11))
	sub := h.Subscribe("news", &received{})
	if at, ok := sub.StartAtLast(); at != 11 || !ok {
		t.Fatalf("it starts at %d, %v, want 11", at, ok)
	}
	ch.Apply(11, leftOut(13))
	if got := sub.GoLive(); got != hub.ReadOn {
		t.Errorf("GoLive = %v, want ReadOn: it was not told of 13", got)
	}
}

// What a channel passes over while a connection joins, that one is told of, too:
// else it would count as received.
func TestJoiningIsToldWhatExpired(t *testing.T) {
	tests := map[string]struct {
		passOver func(h *hub.Hub, ch *hub.Channel)
		want     hub.State
		omitted  []push.Offset // where it is live
	}{
		"it had expired when it came": {func(h *hub.Hub, _ *hub.Channel) {
			e := entry("news", 11, 10)
			e.Message.ExpiresAt = time.Now().Add(-time.Second)
			h.Deliver(e)
		}, hub.Live, []push.Offset{11}},
		"another's read left it out": {func(_ *hub.Hub, ch *hub.Channel) {
			ch.Apply(10, leftOut(11))
		}, hub.ReadOn, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := hub.New(hub.Config{})
			live(t, h, "news", &received{}, 10)
			var conn received
			sub := h.Subscribe("news", &conn)
			sub.StartAtLast()
			tt.passOver(h, sub.Channel())
			if got := sub.GoLive(); got != tt.want || !slices.Equal(conn.omitted, tt.omitted) {
				t.Errorf("GoLive = %v, told that %v are omitted, want %v, %v", got, conn.omitted, tt.want, tt.omitted)
			}
		})
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

// What is held and a read lacks is given, unless the read left it out on purpose.
// What of it has expired or was superseded whoever takes the page is told of: else
// it would count as received.
func TestReadLacksWhatIsHeld(t *testing.T) {
	const room = push.Channel("room:7")
	lacked := func(offset push.Offset, key string, ttl time.Duration) push.Entry {
		e := entry(room, offset, offset-1)
		e.Message.CollapseKey, e.Message.ExpiresAt = key, time.Now().Add(ttl)
		return e
	}
	last := lacked(15, "state", time.Hour)
	last.Prev = 0 // a gap, where the channel is live
	page := hub.Page{Entries: []push.Entry{last}, End: 15, Omitted: []store.Omission{{First: 13, Last: 13}}}
	tests := map[string]func(h *hub.Hub, arrive func()) *received{
		"in the reply": func(h *hub.Hub, arrive func()) *received {
			conn := &received{}
			sub := h.Subscribe(room, conn)
			sub.Start(10)
			sub.Reading()
			arrive()
			p := sub.Merge(10, page)
			for _, e := range p.Entries {
				conn.offsets = append(conn.offsets, e.Offset)
			}
			for _, o := range p.Omitted {
				conn.Omit(room, o)
			}
			sub.Took(10, p)
			sub.GoLive()
			return conn
		},
		"as publications": func(h *hub.Hub, arrive func()) *received {
			conn := &received{}
			sub := h.Subscribe(room, conn)
			sub.Start(10)
			sub.Reading()
			arrive()
			sub.Give(10, page)
			sub.GoLive()
			return conn
		},
		"in a catch-up": func(h *hub.Hub, arrive func()) *received {
			conn := &received{}
			sub := live(t, h, room, conn, 10)
			if _, ok := sub.Channel().Catch(); !ok {
				t.Error("no catch-up may begin")
			}
			arrive()
			sub.Channel().CaughtUp(10, page)
			return conn
		},
	}
	for name, take := range tests {
		t.Run(name, func(t *testing.T) {
			h := hub.New(hub.Config{})
			got := take(h, func() {
				h.Deliver(lacked(11, "", -time.Second))
				h.Deliver(lacked(12, "state", time.Hour))
				h.Deliver(lacked(13, "", time.Hour))
				h.Deliver(lacked(14, "", time.Hour))
			})
			if want := []push.Offset{14, 15}; !slices.Equal(got.offsets, want) {
				t.Errorf("given %v, want %v", got.offsets, want)
			}
			slices.Sort(got.omitted)
			if want := []push.Offset{11, 12, 13}; !slices.Equal(got.omitted, want) {
				t.Errorf("told that %v are omitted, want %v", got.omitted, want)
			}
		})
	}
}

// A larger one would be given 176 bytes by the allocator.
func TestChannelSize(t *testing.T) {
	if hub.ChannelSize > 160 {
		t.Errorf("a channel takes %d bytes, want at most 160", hub.ChannelSize)
	}
}
