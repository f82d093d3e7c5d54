package registry_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
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
		if in, err := b.InTerm(t.Context(), ta, time.Time{}); !in || err != nil {
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
				if in, err := b.InTerm(t.Context(), before, time.Time{}); in || err != nil {
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

func TestInTermAfterALoss(t *testing.T) {
	tests := map[string]func(s *registrytest.Server){
		"flushed":           func(s *registrytest.Server) { s.FlushAll() },
		"restarted empty":   func(s *registrytest.Server) { s.Stop(); s.Start() },
		"restarted as kept": func(s *registrytest.Server) { s.StopSaving(); s.Start() },
	}
	for name, lose := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, registrytest.Redis(t), registry.Config{})
			a := b.append(t, registry.Item{Channel: "c", Message: message("m1")})
			lose(b.server)
			if in, err := b.InTerm(t.Context(), a.Term, time.Time{}); in || err != nil {
				t.Errorf("InTerm after Redis was %s = %v, %v, want false", name, in, err)
			}
		})
	}
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

// What was done a moment ago needs no question; what was done before that, or
// under another Redis, does.
func TestInTermWithoutAsking(t *testing.T) {
	now := time.Now()
	b := newBench(t, registrytest.Redis(t), registry.Config{Now: func() time.Time { return now }})
	a := b.append(t, registry.Item{Channel: "c", Message: message("m1")})
	b.server.FlushAll()
	tests := map[string]struct {
		since time.Time
		want  bool
	}{
		"now":           {now, true},
		"a moment ago":  {now.Add(-90 * time.Millisecond), true},
		"too long ago":  {now.Add(-110 * time.Millisecond), false},
		"in the future": {now.Add(time.Millisecond), false},
		"nobody knows":  {time.Time{}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if in, err := b.InTerm(t.Context(), a.Term, tt.since); in != tt.want || err != nil {
				t.Errorf("InTerm(%v before now) = %v, %v, want %v", now.Sub(tt.since), in, err, tt.want)
			}
		})
	}
}

// Nobody reads in the next term before it is certain that what was appended in
// the last is in the inbox, or is appended again.
func TestNextTermWaits(t *testing.T) {
	b := newBench(t, registrytest.Redis(t), registry.Config{})
	b.term(t)
	b.server.FlushAll()
	lost := time.Now()
	if after := b.term(t); after.Number != 2 || time.Since(lost) < registry.TermPause {
		t.Errorf("term %d began %v after the loss, want 2 after %v", after.Number, time.Since(lost), registry.TermPause)
	}
}

// Callers who leave before a term may begin do not put off its beginning.
func TestNextTermComesThoughCallersLeave(t *testing.T) {
	b := newBench(t, registrytest.Redis(t), registry.Config{})
	for round := range int64(2) { // what was seen of one loss says nothing of the next
		before := b.term(t)
		b.server.FlushAll()
		lost := time.Now()
		var after push.Term
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), registry.TermPause*3/4)
			var err error
			after, err = b.Term(ctx)
			cancel()
			if err == nil {
				break
			}
		}
		if took := time.Since(lost); after.Number != before.Number+1 || took < registry.TermPause {
			t.Errorf("after loss %d callers who leave are in term %+v after %v, want one after %+v, not before %v",
				round+1, after, took, before, registry.TermPause)
		}
	}
}

// An end that was seen long ago, and not since, may have been followed by more of
// the term: the pause begins anew.
func TestNextTermWaitsAnew(t *testing.T) {
	var later atomic.Int64
	cfg := registry.Config{Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }}
	b := newBench(t, registrytest.Redis(t), cfg)
	before := b.term(t)
	for left := false; !left; {
		b.server.FlushAll()
		lost := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), registry.TermPause/2)
		_, _ = b.Term(ctx)
		cancel()
		kept, err := b.terms.Term(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if left = kept.Number == before.Number; !left {
			if took := time.Since(lost); took < registry.TermPause {
				t.Fatalf("term %+v begins %v after the loss", kept, took)
			}
			before = b.term(t) // the machine stood still: it was time
		}
	}
	later.Store(int64(time.Minute))
	seen := time.Now()
	if after := b.term(t); after.Number != before.Number+1 || time.Since(seen) < registry.TermPause {
		t.Errorf("term %d began %v after its end was seen again, want %d after %v", after.Number, time.Since(seen), before.Number+1, registry.TermPause)
	}
}
