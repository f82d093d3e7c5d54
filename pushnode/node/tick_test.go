package node

import (
	"errors"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/centrifugal/protocol"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/clock"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/store"
)

// crowd returns a node that does not run, with that many connections that have
// nothing to do for an hour.
func crowd(t testing.TB, count int) *Node {
	t.Helper()
	reg, err := registry.Open("redis://127.0.0.1:1", nil, registry.Config{Now: clock.Now()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	n := &Node{cfg: Config{}.withDefaults(), reg: reg, started: time.Now().Add(-time.Hour)}
	for i := range count {
		c := &client{node: n, place: i, nextPing: n.moment(time.Now().Add(time.Hour))}
		c.sock = &socket{}
		c.connected.Store(true)
		n.clients = append(n.clients, c)
	}
	return n
}

// A sweep looks at everybody, in parts that are small.
func TestSweepLooksAtEverybody(t *testing.T) {
	for name, tt := range map[string]struct{ count, parts int }{
		"nobody": {0, 1}, "one": {1, 1}, "a few": {100, 1}, "many": {1000, 4}, "as many as a part more": {partClients * 3, 4}, "very many": {100_000, sweepParts},
	} {
		t.Run(name, func(t *testing.T) {
			n := crowd(t, tt.count)
			seen := make(map[*client]int)
			var part []*client
			place, parts := 0, 0
			for range tt.parts {
				part, place, parts = n.nextPart(part, place)
				if parts != tt.parts {
					t.Fatalf("a sweep of %d connections has %d parts, want %d", tt.count, parts, tt.parts)
				}
				for _, c := range part {
					seen[c]++
				}
			}
			if len(seen) != tt.count {
				t.Errorf("%d parts looked at %d of %d connections", parts, len(seen), tt.count)
			}
		})
	}
}

// What begins while a connection is looked at is seen by the next sweep.
func TestLook(t *testing.T) {
	n := crowd(t, 1)
	c, now := n.clients[0], time.Now()
	c.look(now)
	at := n.moment(now)
	if until := moment(c.lookAt.Load()); until != at.after(lookEvery) {
		t.Fatalf("a quiet connection is looked at again after %s, want %s", until.since(at), lookEvery)
	}
	c.soil()
	if c.lookAt.Load() != 0 {
		t.Error("a connection that was given something is not looked at by the next sweep")
	}
	c.device, c.pingFirst = "phone", at
	c.look(now)
	if until := moment(c.lookAt.Load()); until != at.after(provePace) {
		t.Errorf("a device that was given something is looked at again after %s, want %s", until.since(at), provePace)
	}
	c.frameSince.Store(now.UnixNano())
	c.stir()
	c.look(now)
	if c.lookAt.Load() != 0 {
		t.Error("a connection whose frame is not whole is not looked at by the next sweep")
	}
}

// BenchmarkSweep is one look at each of 10,000 connections that have nothing to do.
func BenchmarkSweep(b *testing.B) {
	n := crowd(b, 10_000)
	var part []*client
	b.ReportAllocs()
	for b.Loop() {
		for place := 0; place < len(n.clients); {
			part, place, _ = n.nextPart(part, place)
			now := time.Now()
			for _, c := range part {
				c.look(now)
			}
		}
	}
}

// What a connection costs is counted in these bytes; a field more may take the
// next size that the allocator has, for every one of them.
func TestSizeOfClient(t *testing.T) {
	if size := unsafe.Sizeof(client{}); size > 288 {
		t.Errorf("a client takes %d bytes, want at most 288", size)
	}
}

// A pong that nobody had room for is made up for by the next one, though nothing
// came in between; an ack is not answered as if there had been.
func TestPongWithoutRoom(t *testing.T) {
	n := crowd(t, 1)
	n.metrics = newMetrics(nil, n)
	n.cursors = &cursorWriter{metrics: n.metrics, pending: make(map[cursorKey]store.Cursor)}
	for i := range maxCursors {
		n.cursors.pending[cursorKey{user: "else", channel: push.Channel(strconv.Itoa(i))}] = store.Cursor{}
	}
	c := n.clients[0]
	c.user, c.device = "42", "phone"
	sub := hub.New(hub.Config{}).Subscribe("all", c)
	sub.Start(7)
	c.subs = []following{{sub: sub, told: true}}
	pong := func() {
		c.mu.Lock()
		c.pingSent, c.pass().noted = 1, c.positions()
		c.mu.Unlock()
		c.pong()
	}
	pong()
	ack := &protocol.RPCRequest{Method: "ack", Data: protocol.Raw(`{"channel":"all","offset":7}`)}
	if _, err := c.rpc(ack); !errors.Is(err, errInternal) {
		t.Errorf("an ack that nobody had room for was answered %v, want %v", err, errInternal)
	}
	n.cursors.pending = nil
	pong()
	if got := n.cursors.pending[cursorKey{"42", "phone", "all"}].Received; got != 7 {
		t.Errorf("the second pong moved the cursor to %d, want 7", got)
	}
}
