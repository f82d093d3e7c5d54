package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pushcluster/shared/store"
)

// A stall is a store whose answers wait until the test lets them go.
type stall struct {
	asked chan question
	lost  atomic.Int64 // keys that were not asked for
}

// A question is one that waits for the test.
type question struct {
	keys []int      // sorted
	let  chan error // answers it
}

func (s *stall) ask(ctx context.Context, keys []int) (map[int]string, error) {
	q := question{slices.Sorted(slices.Values(keys)), make(chan error)}
	select {
	case s.asked <- q:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case err := <-q.let:
		if err != nil {
			return nil, err
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	values := make(map[int]string)
	for _, k := range keys {
		if k%2 == 0 {
			values[k] = fmt.Sprint("v", k)
		}
	}
	return values, nil
}

// newStalled returns a gatherer on a stall; both end with the test.
func newStalled(t *testing.T) (*gatherer[int, string], *stall) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	s := &stall{asked: make(chan question, 10)}
	return newGatherer(ctx, wg.Go, s.ask, func() { s.lost.Add(1) }), s
}

// An outcome is what one caller got.
type outcome struct {
	key   int
	value string
	err   error
}

// call asks for key in a goroutine, and returns once the key waits.
func call(t *testing.T, g *gatherer[int, string], key int, to chan<- outcome) {
	t.Helper()
	a := &asked[int, string]{ctx: t.Context(), key: key, done: make(chan struct{}, 1)}
	if err := g.enter(a); err != nil {
		t.Fatal(err)
	}
	go func() {
		<-a.done
		to <- outcome{key, a.value, a.err}
	}()
}

func TestGatherer(t *testing.T) {
	g, s := newStalled(t)
	got := make(chan outcome)
	collect := func(n int) map[int]outcome {
		all := make(map[int]outcome)
		for range n {
			o := <-got
			all[o.key] = o
		}
		return all
	}
	var first []question
	for i := range questionsAtOnce { // each goes at once, alone
		call(t, g, 2*i, got)
		q := <-s.asked
		if !slices.Equal(q.keys, []int{2 * i}) {
			t.Fatalf("question %d asks for %v", i, q.keys)
		}
		first = append(first, q)
	}
	for key := 10; key < 15; key++ { // these gather
		call(t, g, key, got)
	}
	first[0].let <- nil
	next := <-s.asked
	if !slices.Equal(next.keys, []int{10, 11, 12, 13, 14}) {
		t.Errorf("the question after that asks for %v, want 10 to 14", next.keys)
	}
	away := fmt.Errorf("%w: away", store.ErrUnavailable)
	first[1].let <- nil
	for key, o := range collect(questionsAtOnce) {
		if o.value != fmt.Sprint("v", key) || o.err != nil {
			t.Errorf("key %d is answered %q, %v", key, o.value, o.err)
		}
	}
	next.let <- away
	for key, o := range collect(5) {
		if !errors.Is(o.err, away) {
			t.Errorf("key %d is answered %q, %v; want the error of its question", key, o.value, o.err)
		}
	}
	call(t, g, 7, got) // one without an answer, after it was idle
	q := <-s.asked
	q.let <- nil
	if o := <-got; o.value != "" || o.err != nil {
		t.Errorf("a key that the store lacks is answered %q, %v", o.value, o.err)
	}
}

func TestGathererBounds(t *testing.T) {
	g, s := newStalled(t)
	got := make(chan outcome, questionsAtOnce)
	var first []question
	for i := range questionsAtOnce {
		call(t, g, i, got)
		first = append(first, <-s.asked)
	}
	for i := range questionsWait { // whose answers nobody waits for: as many goroutines take 1.4 GB under the race detector
		if err := g.enter(&asked[int, string]{ctx: t.Context(), key: 100 + i, done: make(chan struct{}, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.of(t.Context(), 1); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("one more than may wait: %v, want %v", err, store.ErrUnavailable)
	}
	first[0].let <- nil
	if q := <-s.asked; len(q.keys) != questionKeys {
		t.Errorf("a question asks for %d keys, want %d", len(q.keys), questionKeys)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.of(ended, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller whose context has ended gets %v", err)
	}
}

// Nobody is asked for who has left, and one key that spoils a question is asked
// for by itself.
func TestGathererSparesTheOthers(t *testing.T) {
	g, s := newStalled(t)
	got := make(chan outcome)
	var first []question
	for i := range questionsAtOnce {
		call(t, g, 2*i, got)
		first = append(first, <-s.asked)
	}
	leaving, leave := context.WithCancel(t.Context())
	for key := 100; key < 110; key++ {
		if err := g.enter(&asked[int, string]{ctx: leaving, key: key, done: make(chan struct{}, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	leave()
	for key := 10; key < 13; key++ {
		call(t, g, key, got)
	}
	first[0].let <- nil
	next := <-s.asked
	if !slices.Equal(next.keys, []int{10, 11, 12}) {
		t.Errorf("the question asks for %v, want 10 to 12: the others have left", next.keys)
	}
	if n := s.lost.Load(); n != 10 {
		t.Errorf("%d keys were counted as not asked for, want 10", n)
	}
	first[1].let <- nil
	for range questionsAtOnce {
		<-got
	}
	spoiled := errors.New("a document of another shape")
	next.let <- spoiled
	for _, want := range []int{10, 11, 12} {
		q := <-s.asked
		if !slices.Equal(q.keys, []int{want}) {
			t.Errorf("asked for %v, want %d alone", q.keys, want)
		}
		err := error(nil)
		if want == 11 {
			err = spoiled
		}
		q.let <- err
		if o := <-got; o.key != want || !errors.Is(o.err, err) {
			t.Errorf("key %d is answered %q, %v; want %d and %v", o.key, o.value, o.err, want, err)
		}
	}
}

// A question whose caller leaves is nobody else's: the next caller gets the answer
// to its own.
func TestGathererKeepsQuestionsApart(t *testing.T) {
	g, s := newStalled(t)
	leaving, leave := context.WithCancel(t.Context())
	got := make(chan outcome)
	go func() { // one goroutine, which finds what it used before
		_, err := g.of(leaving, 2)
		got <- outcome{2, "", err}
		v, err := g.of(t.Context(), 6)
		got <- outcome{6, v, err}
	}()
	first := <-s.asked
	leave()
	if o := <-got; !errors.Is(o.err, context.Canceled) {
		t.Errorf("who left gets %v", o.err)
	}
	second := <-s.asked
	behind := make(chan outcome, 1)
	call(t, g, 8, behind)
	first.let <- nil
	third := <-s.asked // so the first is answered
	second.let <- nil
	third.let <- nil
	<-behind
	if o := <-got; o.value != "v6" || o.err != nil {
		t.Errorf("the next caller is answered %q, %v, want v6", o.value, o.err)
	}
}
