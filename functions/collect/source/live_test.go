package source

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pushcluster/functions/collect/rule"
	"pushcluster/shared/store"
)

// A shelf is the sources of a store that may be away.
type shelf struct {
	away    bool
	records []store.SourceRecord
}

func (s *shelf) ListSources(ctx context.Context) ([]store.SourceRecord, error) {
	if s.away {
		return nil, store.ErrUnavailable
	}
	return s.records, ctx.Err()
}

// TestLiveKnowsWhatItDoesNot: where nobody could look yet, a source is not
// missing; and whoever gives a request up takes none away.
func TestLiveKnowsWhatItDoesNot(t *testing.T) {
	const definition = "verify: gitlab\nsecrets: arn:token\nrules: { to: { all: 'true' } }\n"
	compiler, err := rule.NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	st := &shelf{away: true, records: []store.SourceRecord{{Name: "shop", Definition: []byte(definition)}}}
	secretAway, now := true, time.Unix(0, 0)
	resolve := func(ctx context.Context, value string) (string, error) {
		if secretAway {
			return "", errors.New("it is away")
		}
		return value, ctx.Err()
	}
	l := NewLive(nil, st, compiler, resolve, func() time.Time { return now }, slog.New(slog.DiscardHandler))
	gone, leave := context.WithCancel(t.Context())
	leave()
	steps := []struct {
		name           string
		change         func()
		after          time.Duration
		known, unknown bool // of shop
		other          bool // another one is unknown
	}{
		{"the store is away", func() {}, 0, false, true, true},
		{"its secret is away", func() { st.away = false }, listEvery, false, true, false},
		{"there it is", func() { secretAway = false }, listEvery, true, false, false},
		{"the store is away again", func() { st.away = true }, time.Hour, true, false, false},
		{"its secret, too", func() { st.away, secretAway = false, true }, time.Hour, true, false, false},
		{"it is removed", func() { st.records = nil }, listEvery, false, false, false},
	}
	for _, step := range steps {
		step.change()
		now = now.Add(step.after)
		set := l.Set(gone)
		_, known := set.Source("shop")
		if known != step.known || set.Unknown("shop") != step.unknown || set.Unknown("other") != step.other {
			t.Errorf("%s: known %v, unknown %v, another unknown %v, want %v, %v, %v",
				step.name, known, set.Unknown("shop"), set.Unknown("other"), step.known, step.unknown, step.other)
		}
	}
}

// A slow store answers when it is told to.
type slow struct{ asked, answer chan struct{} }

func (s slow) ListSources(context.Context) ([]store.SourceRecord, error) {
	s.asked <- struct{}{}
	<-s.answer
	return nil, nil
}

// TestLiveFileDoesNotWait: a file that has changed counts at once, also while
// somebody else waits for the store.
func TestLiveFileDoesNotWait(t *testing.T) {
	const one = "sources:\n  one: { verify: gitlab, secrets: token, rules: { to: { all: 'true' } } }\n"
	const two = one + "  two: { verify: gitlab, secrets: token, rules: { to: { all: 'true' } } }\n"
	compiler, err := rule.NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sources.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(one)
	asIs := func(_ context.Context, value string) (string, error) { return value, nil }
	log := slog.New(slog.DiscardHandler)
	file := NewFile(Config{Path: path, Every: time.Nanosecond}, compiler, asIs, log, nil)
	if err := file.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	st := slow{make(chan struct{}), make(chan struct{})}
	now := time.Unix(0, 0)
	l := NewLive(file, st, compiler, asIs, func() time.Time { return now }, log)
	look := func() chan *Set {
		done := make(chan *Set, 1)
		go func() { done <- l.Set(t.Context()) }()
		<-st.asked
		return done
	}
	first := look()
	st.answer <- struct{}{}
	if names := (<-first).Names(); !slices.Equal(names, []string{"one"}) {
		t.Fatalf("there are %q, want one", names)
	}
	now = now.Add(time.Minute)
	waits := look()
	write(two)
	if names := l.Set(t.Context()).Names(); !slices.Equal(names, []string{"one", "two"}) {
		t.Errorf("beside a look at the store there are %q, want one and two", names)
	}
	st.answer <- struct{}{}
	<-waits
	if names := l.Set(t.Context()).Names(); !slices.Equal(names, []string{"one", "two"}) {
		t.Errorf("after it there are %q, want one and two", names)
	}
}
