package freeaddr_test

import (
	"net"
	"slices"
	"testing"

	"pushcluster/shared/freeaddr"
)

func TestTake(t *testing.T) {
	first, err := freeaddr.Take(20)
	if err != nil {
		t.Fatal(err)
	}
	var taken []net.Listener
	for _, addr := range first {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatalf("an address that is free cannot be listened on: %v", err)
		}
		taken = append(taken, l)
		t.Cleanup(func() { l.Close() })
	}
	rest, err := freeaddr.Take(100 - len(taken))
	if err != nil {
		t.Skipf("somebody else has ports of this block: %v", err)
	}
	all := slices.Concat(first, rest)
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != 100 {
		t.Errorf("100 addresses are %d different ones", n)
	}
	if more, err := freeaddr.Take(100); err == nil {
		t.Errorf("100 more are free while 20 are taken: %v", more)
	}
}
