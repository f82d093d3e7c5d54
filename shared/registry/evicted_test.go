package registry_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

func TestEvicted(t *testing.T) {
	s := registrytest.Redis(t)
	r, err := registry.Open(s.URL(), new(registrytest.Terms), registry.Config{Timeout: 15 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx := t.Context()
	if n, err := r.Evicted(ctx); err != nil || n != 0 {
		t.Fatalf("Evicted of a new Redis = %d, %v, want 0", n, err)
	}
	if s.Mini() != nil {
		t.Skip("skipped: miniredis evicts nothing")
	}
	do := func(args ...string) {
		t.Helper()
		if _, err := registrytest.Do(s.Addr(), args...); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	do("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
	do("CONFIG", "SET", "maxmemory", "3mb")
	filler := strings.Repeat("x", 50_000)
	for i := range 100 {
		do("SET", fmt.Sprint("filler:", i), filler, "EX", "600")
	}
	if n, err := r.Evicted(ctx); err != nil || n == 0 {
		t.Errorf("Evicted of a full Redis = %d, %v, want more than 0", n, err)
	}
}
