package hub_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// pieces is a client that writes down how what it was given was put together.
type pieces struct{ given [][]push.Offset }

func (c *pieces) Publish(p *hub.Publication) { c.given = append(c.given, hub.Offsets(p)) }

func (c *pieces) Omit(push.Channel, store.Omission) {}

// passes keeps the steps of passes until somebody makes them.
type passes struct{ steps []func() bool }

func (p *passes) keep(step func() bool) { p.steps = append(p.steps, step) }

func (p *passes) step() bool {
	if len(p.steps) > 0 && !p.steps[0]() {
		p.steps = p.steps[1:]
	}
	return len(p.steps) > 0
}

// What gathers during a pass goes to each connection in one piece, but for those
// that have some of it.
func TestPassGathers(t *testing.T) {
	var steps passes
	h := hub.New(hub.Config{Pass: steps.keep, Wide: 2, Step: 1})
	var first, second, ahead pieces
	live(t, h, "news", &first, 10)
	live(t, h, "news", &second, 10)
	live(t, h, "news", &ahead, 13)
	for o := push.Offset(11); o <= 14; o++ {
		if got, _ := h.Deliver(entry("news", o, o-1)); got != hub.Taken {
			t.Fatalf("Deliver(%d) = %v, want Taken", o, got)
		}
		if o == 11 {
			steps.step() // a pass with the first alone begins
		}
	}
	for steps.step() {
	}
	for name, tt := range map[string]struct {
		conn *pieces
		want string
	}{
		"passed first":           {&first, "[[11] [12 13 14]]"},
		"passed second":          {&second, "[[11] [12 13 14]]"},
		"has some of it already": {&ahead, "[[14]]"},
	} {
		if got := fmt.Sprint(tt.conn.given); got != tt.want {
			t.Errorf("who %s was given %s, want %s", name, got, tt.want)
		}
	}
}

// The lines of a group are those of its entries, and data that is no JSON spoils
// no other's.
func TestGroupIsEncodedAsItsEntries(t *testing.T) {
	var steps passes
	h := hub.New(hub.Config{Pass: steps.keep, Wide: 1})
	var conn encodes
	live(t, h, "news", &conn, 10)
	want := encodes{}
	for o := push.Offset(11); o <= 15; o++ {
		e := entry("news", o, o-1)
		if o == 13 {
			e.Message.Data = []byte(`{"no JSON`)
		}
		h.Deliver(e)
		want.Publish(&hub.Publication{Entry: e})
	}
	for steps.step() {
	}
	if !slices.Equal(conn.lines, want.lines) || conn.failed != want.failed {
		t.Errorf("given %q and %d that failed, want %q and %d", conn.lines, conn.failed, want.lines, want.failed)
	}
}

// A group is bounded by what is sent, not by the data alone: ids and names count.
func TestGroupIsBounded(t *testing.T) {
	var steps passes
	h := hub.New(hub.Config{Pass: steps.keep, Wide: 1})
	var conn longest
	live(t, h, "news", &conn, 10)
	for o := push.Offset(11); o <= 511; o++ {
		e := entry("news", o, o-1)
		e.Message.ID = push.MessageID(fmt.Sprintf("%0512d", o))
		h.Deliver(e)
	}
	for steps.step() {
	}
	if conn.entries != 501 || conn.bytes > 40<<10 || conn.bytes < 16<<10 {
		t.Errorf("given %d lines, at most %d bytes at once; want 501 and about 32 KiB", conn.entries, conn.bytes)
	}
}

// longest is a client that notes how much it is given at once.
type longest struct{ entries, bytes int }

func (c *longest) Publish(p *hub.Publication) {
	b, _ := p.JSON() // the data is JSON
	c.entries += strings.Count(string(b), "\n") + 1
	c.bytes = max(c.bytes, len(b))
}

func (c *longest) Omit(push.Channel, store.Omission) {}

// encodes is a client that writes down the lines that it is given.
type encodes struct {
	lines  []string
	failed int
}

func (c *encodes) Publish(p *hub.Publication) {
	b, err := p.JSON()
	if err != nil {
		c.failed++
		return
	}
	c.lines = append(c.lines, strings.Split(string(b), "\n")...)
}

func (c *encodes) Omit(push.Channel, store.Omission) {}

// Who delivers to a channel for which too much waits, waits; nothing is lost.
func TestDeliverWaitsForRoom(t *testing.T) {
	const count = 3 * hub.MaxWaiting
	var running sync.WaitGroup
	begin := make(chan struct{})
	waited := 0
	h := hub.New(hub.Config{Wide: 1, Waited: func() {
		if waited++; waited == 1 {
			close(begin) // nobody makes room before
		}
	}, Pass: func(step func() bool) {
		running.Go(func() {
			<-begin
			for step() {
			}
		})
	}})
	var conn received
	live(t, h, "news", &conn, 10)
	for o := push.Offset(11); o < 11+count; o++ {
		h.Deliver(entry("news", o, o-1))
	}
	running.Wait()
	if waited == 0 {
		t.Error("nobody was told that a delivery waited")
	}
	if len(conn.offsets) != count || !slices.IsSorted(conn.offsets) {
		t.Errorf("given %d entries, sorted %t, want %d in order", len(conn.offsets), slices.IsSorted(conn.offsets), count)
	}
}

// BenchmarkPass gives messages to one channel of 10,000 subscriptions as fast as
// it takes them.
func BenchmarkPass(b *testing.B) {
	var running sync.WaitGroup
	h := hub.New(hub.Config{Pass: func(step func() bool) {
		running.Go(func() {
			for step() {
			}
		})
	}})
	var conn counter
	for range 10_000 {
		live(b, h, "news", &conn, 1)
	}
	e := entry("news", 1, 0)
	b.ReportAllocs()
	for b.Loop() {
		e.Offset, e.Prev = e.Offset+1, e.Offset
		h.Deliver(e)
	}
	running.Wait()
}
