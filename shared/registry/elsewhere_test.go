package registry_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

// parted returns two processes with one store, after a replica has taken over for the
// second from a primary that goes on for the first, and the terms each is in.
func parted(t *testing.T) (old, on bench, first, second push.Term) {
	t.Helper()
	one, other := registrytest.Redis(t), registrytest.Redis(t)
	if one.Mini() != nil || other.Mini() != nil {
		t.Skip("skipped: replicas are redis-server's, which is not installed")
	}
	terms := &registrytest.Terms{}
	old = bench{open(t, one, terms, registry.Config{}), one, terms}
	first = place(t, old.Registry, "#42", "m1").Term
	promote(t, other, one)
	on = bench{open(t, other, terms, registry.Config{}), other, terms}
	return old, on, first, on.term(t)
}

// Two sides that do not see each other's Redis take turns: none ends the other's
// term before that had its time, and none waits for ever.
func TestSidesTakeTurns(t *testing.T) {
	old, on, first, second := parted(t)
	if second.Number != 2 {
		t.Fatalf("where the replica has taken over the term is %+v, want the second at once", second)
	}
	turn := func(who string, b bench, own, others push.Term) push.Term {
		t.Helper()
		if in, err := b.InTerm(t.Context(), own); in || err != nil {
			t.Errorf("%s: InTerm(its own) = %v, %v, want false", who, in, err)
		}
		began := time.Now()
		got := place(t, b.Registry, "#42", "m2").Term
		if got.Number != others.Number+1 || got.Floor < others.Ceiling || time.Since(began) < registry.TermTurn {
			t.Errorf("%s takes %+v after %v, want the term after %+v, not before %v", who, got, time.Since(began), others, registry.TermTurn)
		}
		return got
	}
	third := turn("who is cut off", old, first, second)
	fourth := turn("who is not", on, second, third)
	late := bench{open(t, old.server, old.terms, registry.Config{}), old.server, old.terms}
	fifth := turn("who comes where one was cut off", late, third, fourth)
	if in, err := old.InTerm(t.Context(), third); in || err != nil {
		t.Errorf("who was cut off: InTerm(its own) = %v, %v, want false", in, err)
	}
	if got := place(t, old.Registry, "#42", "m3").Term; got.Number != fifth.Number {
		t.Errorf("two processes with one Redis are in %+v and %+v", got, fifth)
	}
}

// Callers who leave before it is their side's turn do not put that off.
func TestTurnComesThoughCallersLeave(t *testing.T) {
	old, _, first, second := parted(t)
	if in, err := old.InTerm(t.Context(), first); in || err != nil {
		t.Errorf("InTerm(the first) = %v, %v, want false", in, err)
	}
	began := time.Now()
	var got push.Term
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), registry.TermTurn*3/4)
		a, err := old.Append(ctx, []registry.Item{{Channel: "#42", Message: message("m2"), Asked: true}})
		cancel()
		if err == nil {
			got = a.Term
			break
		}
	}
	if took := time.Since(began); got.Number != second.Number+1 || took < registry.TermTurn {
		t.Errorf("callers who leave are in %+v after %v, want the term after %+v, not before %v", got, took, second, registry.TermTurn)
	}
}

// A replica takes over behind one address, and the old primary, which knows nothing of
// it, keeps its connections: who has them meets the new one, and takes no term.
func TestTakenOverBehindOneAddress(t *testing.T) {
	one, other := registrytest.Redis(t), registrytest.Redis(t)
	if one.Mini() != nil || other.Mini() != nil {
		t.Skip("skipped: replicas are redis-server's, which is not installed")
	}
	terms := &registrytest.Terms{}
	to, addr := relay(t, one.Addr())
	now := time.Now() // it is never this side's turn
	reg, err := registry.Open("redis://"+addr, terms, registry.Config{Timeout: time.Minute, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	first := place(t, reg, "#42", "m1").Term
	promote(t, other, one)
	lease := registry.Lease{Node: "127.0.0.1:1/a"}
	if _, err := reg.Grant(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	to.Store(other.Addr())
	second := bench{open(t, other, terms, registry.Config{}), other, terms}.term(t)
	if in, err := reg.InTerm(t.Context(), first); in || err != nil {
		t.Errorf("InTerm(the first) = %v, %v, want false", in, err)
	}
	if held, term, err := reg.Renew(t.Context(), lease); held || term.Number != second.Number || err != nil {
		t.Errorf("Renew = %v, %+v, %v, want no lease at the other Redis, whose term is %+v", held, term, err, second)
	}
	if got := place(t, reg, "#42", "m2").Term; got.Number != second.Number {
		t.Errorf("who had connections to the old primary is in %+v, want %+v", got, second)
	}
}

// However quickly terms follow one another, the ceiling stays near the clock: what lies
// far ahead of it would not be read from the inbox alone for as long.
func TestCeilingOfManyTerms(t *testing.T) {
	b := newBench(t, registrytest.Redis(t), registry.Config{})
	const n = 5
	for i := range n {
		b.asked(t, "c", fmt.Sprint("m", i))
		b.server.FlushAll()
	}
	got := b.term(t)
	if ahead := got.Ceiling.Time().Sub(b.Now()); got.Number != n+1 || ahead > (10+n+1)*time.Second {
		t.Errorf("the ceiling of %+v is %v ahead, want 10 s and one for each of %d terms", got, ahead, n)
	}
}
