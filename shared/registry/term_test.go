package registry_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

func TestTermLasts(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		terms := &registrytest.Terms{}
		a := bench{open(t, s, terms, registry.Config{}), s, terms}
		b := bench{open(t, s, terms, registry.Config{}), s, terms}
		ta, tb := a.term(t), b.term(t)
		if ta.Number != 1 || ta.Marker != tb.Marker || ta.Floor != tb.Floor {
			t.Errorf("two processes find %+v and %+v, want one first term", ta, tb)
		}
		if in, err := b.InTerm(t.Context(), ta); !in || err != nil {
			t.Errorf("InTerm = %v, %v, want true", in, err)
		}
	})
}

func TestTermEnds(t *testing.T) {
	tests := map[string]func(s *registrytest.Server){
		"flushed":           func(s *registrytest.Server) { s.FlushAll() },
		"restarted empty":   func(s *registrytest.Server) { s.Stop(); s.Start() },
		"restarted as kept": func(s *registrytest.Server) { s.StopSaving(); s.Start() },
	}
	onBoth(t, func(t *testing.T, server *registrytest.Server) {
		for name, lose := range tests {
			t.Run(name, func(t *testing.T) {
				s := server
				if s.Mini() == nil {
					s = registrytest.Redis(t)
				} else if name == "restarted as kept" {
					t.Skip("miniredis does not save")
				}
				b := newBench(t, s, registry.Config{})
				first := b.add(t, "#42", "m1")
				before := b.term(t)
				lose(s)
				// The append must notice by itself.
				second := b.asked(t, "#42", "m2")
				after := b.term(t)
				if after.Number != before.Number+1 || after.Floor != before.Ceiling {
					t.Errorf("the term after %+v is %+v, want the next with its ceiling as floor", before, after)
				}
				if second.Offset <= after.Floor || second.Offset <= first.Offset || second.Prev != 0 {
					t.Errorf("first append of the new term = %+v, want it above floor %d without predecessor", second, after.Floor)
				}
				if in, err := b.InTerm(t.Context(), before); in || err != nil {
					t.Errorf("InTerm(the old one) = %v, %v, want false", in, err)
				}
				page := b.read(t, registry.LogQuery{Channel: "#42", After: first.Offset})
				if page.ReachesBack || ids(page) != "m2" {
					t.Errorf("read from the old term = %q, reaches back %v; want m2, false", ids(page), page.ReachesBack)
				}
			})
		}
	})
}

// A term lasts until another begins, whatever Redis has lost and whoever begins it.
func TestInTerm(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		terms := &registrytest.Terms{}
		a := bench{open(t, s, terms, registry.Config{}), s, terms}
		b := bench{open(t, s, terms, registry.Config{}), s, terms}
		in := func(when string, r bench, term push.Term, want bool) {
			t.Helper()
			if got, err := r.InTerm(t.Context(), term); got != want || err != nil {
				t.Errorf("%s: InTerm = %v, %v, want %v", when, got, err, want)
			}
		}
		first := a.append(t, registry.Item{Channel: "c", Message: message("m1")}).Term
		s.FlushAll()
		in("while nobody has seen the loss", a, first, true)
		second := b.term(t)
		in("at who began the second", b, first, false)
		in("at who did not", a, first, false)
		in("once more", a, first, false)
		in("of the second", a, second, true)
		if got := a.append(t, registry.Item{Channel: "c", Message: message("m2"), Asked: true}).Term; got.Number != 2 {
			t.Errorf("who did not begin the second appends in %+v", got)
		}
		terms.Fail(errors.New("away"))
		if got, err := a.InTerm(t.Context(), second); got || err == nil {
			t.Errorf("without a store InTerm = %v, %v, want an error", got, err)
		}
	})
}

// Many processes find the loss at the same moment; all agree on one term.
func TestTermIsAgreedOn(t *testing.T) {
	onBoth(t, func(t *testing.T, s *registrytest.Server) {
		terms := &registrytest.Terms{}
		var all []bench
		for range 8 {
			all = append(all, bench{open(t, s, terms, registry.Config{}), s, terms})
		}
		for round := range 5 {
			s.FlushAll()
			var wg sync.WaitGroup
			for i, b := range all {
				wg.Go(func() {
					_, err := b.Append(t.Context(), []registry.Item{{Channel: "c", Asked: true,
						Message: message(fmt.Sprint("m", round, "-", i))}})
					if err != nil {
						t.Errorf("process %d: %v", i, err)
					}
				})
			}
			wg.Wait()
			want := all[0].term(t)
			for i, b := range all {
				if got := b.term(t); got.Marker != want.Marker {
					t.Errorf("process %d is in term %+v, process 0 in %+v", i, got, want)
				}
			}
			page := all[0].read(t, registry.LogQuery{Channel: "c"})
			if len(page.Entries) != len(all) {
				t.Errorf("round %d: the log holds %d entries, want %d", round, len(page.Entries), len(all))
			}
		}
		if got := all[0].term(t).Number; got > 10 {
			t.Errorf("5 losses made %d terms", got)
		}
	})
}

// A process died after it put a marker into Redis and before it told the store.
func TestHalfStartedTermIsFinished(t *testing.T) {
	b := newBench(t, registrytest.Redis(t), registry.Config{})
	first := b.term(t)
	marker := fmt.Sprintf("%d.half", first.Number+1)
	if _, err := registrytest.Do(b.server.Addr(), "SET", "push:term", marker); err != nil {
		t.Fatal(err)
	}
	if got := b.term(t); got.Number != first.Number+1 || got.Marker != marker {
		t.Errorf("Term = %+v, want the half-started one finished", got)
	}
}

// Markers of the past and foreign values do not become a term.
func TestStaleMarkerIsReplaced(t *testing.T) {
	for name, marker := range map[string]string{"past": "1.past", "far": "99.far", "foreign": "hello", "negative": "-2.x"} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, registrytest.Redis(t), registry.Config{})
			first := b.term(t)
			if _, err := registrytest.Do(b.server.Addr(), "SET", "push:term", marker); err != nil {
				t.Fatal(err)
			}
			if got := b.term(t); got.Number != first.Number+1 || got.Marker == marker || got.Floor != first.Ceiling {
				t.Errorf("with marker %q Term = %+v, want a new one after %+v", marker, got, first)
			}
		})
	}
}

func TestCeiling(t *testing.T) {
	s := registrytest.Mini(t)
	b := newBench(t, s, registry.Config{})
	start := time.Now()
	s.Mini().SetTime(start)
	b.add(t, "c", "m1")
	first := b.term(t)

	s.Mini().SetTime(start.Add(time.Hour))
	got := b.append(t, registry.Item{Channel: "c", Message: message("m2")})
	if got.Term.Number != first.Number || got.Items[0].Offset >= got.Term.Ceiling {
		t.Errorf("Append = %+v, want it below the raised ceiling", got)
	}
	if kept, _ := b.terms.Term(t.Context()); kept.Ceiling <= got.Items[0].Offset {
		t.Errorf("the store has ceiling %d, offset %d was returned", kept.Ceiling, got.Items[0].Offset)
	}

	s.Mini().SetTime(start.Add(2 * time.Hour))
	b.terms.Fail(errors.New("store away"))
	if a, err := b.Append(t.Context(), []registry.Item{{Channel: "c", Message: message("m3")}}); err == nil {
		t.Errorf("Append above the ceiling without store = %+v, want an error", a)
	}
	if p, err := b.ReadLog(t.Context(), registry.LogQuery{Channel: "c"}); err == nil {
		t.Errorf("ReadLog above the ceiling without store = %+v, want an error", p)
	}
	b.terms.Fail(nil)
	if p := b.read(t, registry.LogQuery{Channel: "c"}); p.Last >= p.Term.Ceiling {
		t.Errorf("ReadLog = last %d in term %+v, want it below the ceiling", p.Last, p.Term)
	}
}

// Another process raised the ceiling, or started a term, meanwhile.
func TestCeilingOfOthers(t *testing.T) {
	s, terms := registrytest.Mini(t), &registrytest.Terms{}
	s.Mini().SetTime(time.Now())
	a := bench{open(t, s, terms, registry.Config{}), s, terms}
	b := bench{open(t, s, terms, registry.Config{}), s, terms}
	a.add(t, "c", "m1")
	b.add(t, "c", "m2")
	s.Mini().SetTime(time.Now().Add(time.Minute))
	a.add(t, "c", "m3")
	got := b.append(t, registry.Item{Channel: "c", Message: message("m4")})
	if kept, _ := terms.Term(t.Context()); got.Term != kept {
		t.Errorf("the second process is in %+v, the store in %+v", got.Term, kept)
	}
	s.FlushAll()
	s.Mini().SetTime(time.Now().Add(2 * time.Minute))
	a.asked(t, "c", "m5")
	if o := b.asked(t, "c", "m6"); o.Prev == 0 {
		t.Errorf("m6 = %+v, want it to follow m5", o)
	}
}

func TestClockIsRedis(t *testing.T) {
	s := registrytest.Mini(t)
	b := newBench(t, s, registry.Config{})
	wall := time.Now()
	if d := b.Now().Sub(wall); d < 0 || d > time.Minute {
		t.Errorf("before Redis was heard the clock is %v off the wall clock", d)
	}
	there := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	s.Mini().SetTime(there)
	b.term(t)
	if d := b.Now().Sub(there); d < 0 || d > time.Minute {
		t.Errorf("the clock is %v off Redis'", d)
	}
	// The term's floor is as much later as this process took until here.
	if o := b.add(t, "c", "m1"); o.Offset.Time().Sub(there).Abs() > time.Minute {
		t.Errorf("offset %d is of %v, want %v", o.Offset, o.Offset.Time(), there)
	}
	s.Mini().SetTime(there.Add(-time.Hour)) // set back: offsets go on
	first := b.term(t)
	var last push.Offset
	for i := range 3 {
		o := b.add(t, "c", fmt.Sprint("n", i))
		if o.Offset <= last || o.Prev == 0 {
			t.Errorf("offset %d after %d, predecessor %d", o.Offset, last, o.Prev)
		}
		last = o.Offset
	}
	if now := b.term(t); now.Marker != first.Marker {
		t.Errorf("a clock set back started term %+v", now)
	}
}

// A Redis that turns connections away, here those of a user that is locked out,
// has said nothing: neither what time it is nor that its memory is gone.
func TestTurnedAway(t *testing.T) {
	s := registrytest.Redis(t)
	if s.Mini() != nil {
		t.Skip("skipped: users are redis-server's, which is not installed")
	}
	user := func(rules ...string) {
		t.Helper()
		do(t, s, append([]string{"ACL", "SETUSER", "ann"}, rules...)...)
	}
	user("on", ">sesame", "~*", "+@all")
	terms := &registrytest.Terms{}
	r, err := registry.Open("redis://ann:sesame@"+s.Addr(), terms, registry.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	b := bench{r, s, terms}
	b.add(t, "c", "m1")
	before := b.term(t)

	user("off")
	do(t, s, "CLIENT", "KILL", "USER", "ann")
	calls := map[string]func() error{
		"Term": func() error { _, err := b.Term(t.Context()); return err },
		"Append": func() error {
			_, err := b.Append(t.Context(), []registry.Item{{Channel: "c", Message: message("m2")}})
			return err
		},
		"ReadLog": func() error {
			_, err := b.ReadLog(t.Context(), registry.LogQuery{Channel: "c"})
			return err
		},
		"Evicted": func() error { _, err := b.Evicted(t.Context()); return err },
	}
	for range 10 { // the first ones may meet connections that were closed
		for name, call := range calls {
			if call() == nil {
				t.Errorf("%s = nil without a connection", name)
			}
		}
		if d := time.Since(b.Now()).Abs(); d > time.Minute {
			t.Fatalf("the clock is %v off the wall clock, which is Redis' too", d)
		}
	}

	user("on")
	if now := b.term(t); now.Marker != before.Marker || now.Number != before.Number {
		t.Errorf("term %+v follows %+v, though nothing was lost", now, before)
	}
	if page := b.read(t, registry.LogQuery{Channel: "c"}); ids(page) != "m1" {
		t.Errorf("the log holds %q, want m1", ids(page))
	}
}
