package registry_test

import (
	"errors"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

// A primary is cut off, with some, and a replica takes over for the others. Who is
// cut off takes no term from those who go on in theirs, also if they were not there
// before, and takes one when nobody goes on.
func TestTermGoesOnElsewhere(t *testing.T) {
	one, other := registrytest.Redis(t), registrytest.Redis(t)
	if one.Mini() != nil || other.Mini() != nil {
		t.Skip("skipped: replicas are redis-server's, which is not installed")
	}
	terms := &registrytest.Terms{}
	old := bench{open(t, one, terms, registry.Config{}), one, terms}
	first := place(t, old.Registry, "#42", "m1").Term
	follow(t, other, one)
	eventually(t, func() error { return has(other, "master_link_status:up") })
	do(t, other, "REPLICAOF", "NO", "ONE")
	on := bench{open(t, other, terms, registry.Config{}), other, terms}
	second := on.term(t)
	if second.Number != 2 {
		t.Fatalf("where the replica has taken over the term is %+v, want the second", second)
	}

	if in, err := old.InTerm(t.Context(), first); in || err != nil {
		t.Errorf("InTerm(the first) = %v, %v, want false", in, err)
	}
	late := bench{open(t, one, terms, registry.Config{}), one, terms}
	for name, b := range map[string]bench{"who was there": old, "who comes": late} {
		items := []registry.Item{{Channel: "#42", Message: message("m2"), Asked: true}}
		if a, err := b.Append(t.Context(), items); !errors.Is(err, registry.ErrElsewhere) {
			t.Errorf("%s appends: %+v, %v, want %v", name, a, err, registry.ErrElsewhere)
		}
		if _, _, err := b.Renew(t.Context(), registry.Lease{Node: "127.0.0.1:1/a"}); !errors.Is(err, registry.ErrElsewhere) {
			t.Errorf("%s renews a lease: %v, want %v", name, err, registry.ErrElsewhere)
		}
	}
	if now := on.term(t); now.Number != 2 {
		t.Errorf("the others are in %+v, want the second still", now)
	}

	// Nobody has raised the ceiling for so long that time has passed it.
	kept, _ := terms.Term(t.Context())
	ended := kept
	ended.Ceiling = push.OffsetAt(old.Now().Add(-time.Second))
	if swapped, err := terms.SwapTerm(t.Context(), kept, ended); !swapped || err != nil {
		t.Fatal(swapped, err)
	}
	if third := place(t, late.Registry, "#42", "m2").Term; third.Number != 3 || third.Floor != ended.Ceiling {
		t.Errorf("when nobody goes on elsewhere the term is %+v, want the third", third)
	}
	if got := place(t, old.Registry, "#42", "m3").Term; got.Number != 3 {
		t.Errorf("the other process there is in %+v, want the third", got)
	}
}

// Who raises the ceiling finds that the term goes on elsewhere, though this Redis is
// as it was.
func TestCeilingOfATermElsewhere(t *testing.T) {
	one, other := registrytest.Redis(t), registrytest.Redis(t)
	if one.Mini() != nil || other.Mini() != nil {
		t.Skip("skipped: run ids are redis-server's, which is not installed")
	}
	terms := &registrytest.Terms{}
	old := bench{open(t, one, terms, registry.Config{}), one, terms}
	kept := old.term(t)
	low := kept
	low.Ceiling = push.OffsetAt(old.Now())
	if swapped, err := terms.SwapTerm(t.Context(), kept, low); !swapped || err != nil {
		t.Fatal(swapped, err)
	}
	raising := bench{open(t, one, terms, registry.Config{}), one, terms}
	if got := raising.term(t); got.Ceiling != low.Ceiling {
		t.Fatalf("the term is %+v, want ceiling %d", got, low.Ceiling)
	}
	on := bench{open(t, other, terms, registry.Config{}), other, terms}
	if second := on.term(t); second.Number != 2 {
		t.Fatalf("at another Redis the term is %+v, want the second", second)
	}
	items := []registry.Item{{Channel: "#42", Message: message("m1"), Asked: true}}
	for range 2 {
		if a, err := raising.Append(t.Context(), items); !errors.Is(err, registry.ErrElsewhere) {
			t.Errorf("Append above the ceiling = %+v, %v, want %v", a, err, registry.ErrElsewhere)
		}
	}
}
