package node

import (
	"testing"
	"time"
	"unsafe"

	"pushcluster/shared/clock"
	"pushcluster/shared/registry"
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
