package storetest

import (
	"testing"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

var controlTests = []test{
	{"control/no term at first", testNoTerm},
	{"control/swap the term", testSwapTerm},
	{"control/a term lasts until the next", testTermLasts},
	{"control/the epoch stays", testEpoch},
}

func testNoTerm(t *testing.T, s store.Store) {
	term, err := s.Term(t.Context())
	check(t, err)
	if term != (push.Term{}) {
		t.Errorf("the term of an empty store is %+v, want none", term)
	}
	swapped, err := s.SwapTerm(t.Context(), push.Term{Number: 1}, push.Term{Number: 2})
	check(t, err)
	if swapped {
		t.Error("a term that never was could be replaced")
	}
}

func testSwapTerm(t *testing.T, s store.Store) {
	swap := func(name string, old, next push.Term, want bool) {
		t.Helper()
		got, err := s.SwapTerm(t.Context(), old, next)
		check(t, err)
		if got != want {
			t.Errorf("%s: swapped %v, want %v", name, got, want)
		}
	}
	first := push.Term{Number: 1, Marker: "m.$1", RunID: "r1", Floor: 0, Ceiling: 1<<53 - 1}
	swap("the first", push.Term{}, first, true)
	swap("the first again", push.Term{}, push.Term{Number: 1, Marker: "other"}, false)
	for name, change := range map[string]func(*push.Term){
		"number":  func(t *push.Term) { t.Number++ },
		"marker":  func(t *push.Term) { t.Marker = "" },
		"run id":  func(t *push.Term) { t.RunID += "x" },
		"floor":   func(t *push.Term) { t.Floor++ },
		"ceiling": func(t *push.Term) { t.Ceiling-- },
	} {
		old := first
		change(&old)
		swap("another "+name, old, push.Term{Number: 9}, false)
	}
	got, err := s.Term(t.Context())
	check(t, err)
	if got != first {
		t.Fatalf("the term is %+v, want %+v", got, first)
	}
	second := push.Term{Number: 2, Marker: "m2", RunID: "r2,r3", Floor: first.Ceiling, Ceiling: 1 << 53}
	swap("the second", first, second, true)
	swap("the second again", first, second, false)
	got, err = s.Term(t.Context())
	check(t, err)
	if got != second {
		t.Errorf("the term is %+v, want %+v", got, second)
	}
}

func testTermLasts(t *testing.T, s store.Store) {
	lasts := func(when, marker string, want bool) {
		t.Helper()
		got, err := s.TermLasts(t.Context(), marker)
		check(t, err)
		if got != want {
			t.Errorf("%s the term %q lasts: %v, want %v", when, marker, got, want)
		}
	}
	lasts("before the first", "", false)
	lasts("before the first", "m1", false)
	first := push.Term{Number: 1, Marker: "m1", Ceiling: 10}
	_, err := s.SwapTerm(t.Context(), push.Term{}, first)
	check(t, err)
	lasts("in the first", "m1", true)
	lasts("in the first", "m2", false)
	raised := first
	raised.Ceiling = 20
	_, err = s.SwapTerm(t.Context(), first, raised)
	check(t, err)
	lasts("with a higher ceiling", "m1", true)
	_, err = s.SwapTerm(t.Context(), raised, push.Term{Number: 2, Marker: "m2", Floor: 20, Ceiling: 30})
	check(t, err)
	lasts("in the second", "m1", false)
	lasts("in the second", "m2", true)
}

func testEpoch(t *testing.T, s store.Store) {
	first, err := s.Epoch(t.Context())
	check(t, err)
	if first == "" {
		t.Error("the epoch has no name")
	}
	check(t, s.Prepare(t.Context()))
	second, err := s.Epoch(t.Context())
	check(t, err)
	if second != first {
		t.Errorf("the epoch was %q and became %q", first, second)
	}
}
