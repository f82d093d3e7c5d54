package source

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	st := &shelf{away: true, records: shopIs(definition)}
	secretAway, now := true, time.Unix(0, 0)
	resolve := func(ctx context.Context, value string) (string, error) {
		if secretAway {
			return "", errors.New("it is away")
		}
		return "the word of " + value, ctx.Err()
	}
	l := NewLive(nil, st, compiler, resolve, func() time.Time { return now }, slog.New(slog.DiscardHandler))
	gone, leave := context.WithCancel(t.Context())
	leave()
	steps := []struct {
		name        string
		change      func()
		after       time.Duration
		shop, other string // what is told of shop, and of one that nobody put; "": it is there
	}{
		{"the store is away", func() {}, 0, "unread", "unread"},
		{"its secret is away", func() { st.away = false }, listEvery, "away", "none"},
		{"nobody asks again so soon", func() { secretAway = false }, time.Second, "away", "none"},
		{"there it is", func() {}, listEvery, "", "none"},
		{"the store is away again", func() { st.away = true }, time.Hour, "", "none"},
		{"its secret, too", func() { st.away, secretAway = false, true }, time.Hour, "but away", "none"},
		{"it is there again", func() { secretAway = false }, time.Minute, "", "none"},
		{"it is put anew, and wrong", func() { st.records = shopIs("verify: gitlub") }, listEvery, "but wrong", "none"},
		{"it is removed", func() { st.records = nil }, listEvery, "none", "none"},
		{"a wrong one is there", func() { st.records = shopIs("verify: gitlub\nsecrets: arn:token\n") }, listEvery, "wrong", "none"},
		{"what is wrong does not heal", func() {}, time.Hour, "wrong", "none"},
		{"but it can be put again", func() { st.records = shopIs(definition) }, listEvery, "", "none"},
	}
	for _, step := range steps {
		step.change()
		now = now.Add(step.after)
		set := l.Set(gone)
		if shop, other := told(set.Source(t.Context(), "shop")), told(set.Source(t.Context(), "other")); shop != step.shop || other != step.other {
			t.Errorf("%s: of shop is told %q, of another one %q; want %q and %q", step.name, shop, other, step.shop, step.other)
		}
	}
}

// shopIs is a store that holds the source shop alone.
func shopIs(definition string) []store.SourceRecord {
	return []store.SourceRecord{{Name: "shop", Definition: []byte(definition)}}
}

// told is what Set.Source told, in a word or two; "" is a source that is as it
// should be.
func told(s *Source, err error) string {
	var wrong *Unusable
	but := ""
	if err == nil {
		if s.Wrong == nil {
			return ""
		}
		err, but = s.Wrong, "but "
	}
	switch {
	case errors.Is(err, ErrNone):
		return "none"
	case errors.Is(err, ErrUnread):
		return "unread"
	case errors.As(err, &wrong) && wrong.Away:
		return but + "away"
	case errors.As(err, &wrong):
		return but + "wrong"
	}
	return err.Error()
}

// A counter of what was looked up, and what secrets stand for.
type vault struct {
	asked  map[string]int
	secret string
}

func (v *vault) resolve(_ context.Context, value string) (string, error) {
	v.asked[value]++
	if value == "arn:token" {
		return v.secret, nil
	}
	return value, nil
}

// TestLiveReadsWhatIsAskedFor: nobody waits for the sources of others, and a
// source is read again only when it was put again, or a secret is another.
func TestLiveReadsWhatIsAskedFor(t *testing.T) {
	compiler, err := rule.NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	const plain, elsewhere = "verify: gitlab\nsecrets: token\nrules: { to: { all: 'true' } }\n", "verify: gitlab\nsecrets: arn:token\nrules: { to: { all: 'true' } }\n"
	st := &shelf{records: []store.SourceRecord{{Name: "plain", Definition: []byte(plain)}, {Name: "elsewhere", Definition: []byte(elsewhere)},
		{Name: "wrong", Definition: []byte("verify: gitlab\nsecrets: w\n")}}}
	secrets, now := &vault{asked: make(map[string]int), secret: "a word"}, time.Unix(0, 0)
	l := NewLive(nil, st, compiler, secrets.resolve, func() time.Time { return now }, slog.New(slog.DiscardHandler))
	last := make(map[string]*Source)
	steps := []struct {
		name   string
		change func()
		after  time.Duration
		ask    string // for these, in one word each
		again  string // which of them are made anew
		asked  int    // how often the store of secrets is
	}{
		{"nobody asks for any", func() {}, 0, "", "", 0},
		{"one", func() {}, 0, "plain", "plain", 0},
		{"the others", func() {}, 0, "elsewhere wrong", "elsewhere", 1},
		{"5 s later", func() {}, listEvery, "plain elsewhere wrong", "", 1},
		{"a minute later", func() {}, time.Minute, "plain elsewhere wrong", "", 2},
		{"another secret", func() { secrets.secret = "another word" }, time.Minute, "plain elsewhere wrong", "elsewhere", 3},
		{"put again", func() { st.records[0].UpdatedAt = now.Add(time.Second) }, listEvery, "plain elsewhere", "plain", 3},
		{"an hour later", func() {}, time.Hour, "plain wrong", "", 3},
	}
	for _, step := range steps {
		step.change()
		now = now.Add(step.after)
		set := l.Set(t.Context())
		var again []string
		for _, name := range strings.Fields(step.ask) {
			s, err := set.Source(t.Context(), name)
			if (err != nil) != (name == "wrong") {
				t.Fatalf("%s: %s = %+v, %v", step.name, name, s, err)
			}
			if s != last[name] {
				again = append(again, name)
			}
			last[name] = s
		}
		if got := strings.Join(again, " "); got != step.again || secrets.asked["arn:token"] != step.asked {
			t.Errorf("%s: made anew were %q, and secrets were looked up %d times; want %q and %d", step.name, got, secrets.asked["arn:token"], step.again, step.asked)
		}
	}
	if n := secrets.asked["w"]; n != 1 {
		t.Errorf("what is wrong was read %d times, want once", n)
	}
}

// TestSourceOfARequestThatIsOver: who waits no more has nothing read, and what
// was read counts all the same.
func TestSourceOfARequestThatIsOver(t *testing.T) {
	compiler, err := rule.NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	st := &shelf{records: shopIs("verify: gitlab\nsecrets: token\nrules: { to: { all: 'true' } }\n")}
	l := NewLive(nil, st, compiler, (&vault{asked: make(map[string]int)}).resolve, nil, slog.New(slog.DiscardHandler))
	over, end := context.WithCancel(t.Context())
	end()
	for _, step := range []struct {
		ctx  context.Context
		want string
	}{{over, "away"}, {t.Context(), ""}, {over, ""}} {
		if got := told(l.Set(step.ctx).Source(step.ctx, "shop")); got != step.want {
			t.Errorf("of shop is told %q, want %q", got, step.want)
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
	l.Set(t.Context()) // finds it changed, the next look finds it at rest
	if names := l.Set(t.Context()).Names(); !slices.Equal(names, []string{"one", "two"}) {
		t.Errorf("beside a look at the store there are %q, want one and two", names)
	}
	st.answer <- struct{}{}
	<-waits
	if names := l.Set(t.Context()).Names(); !slices.Equal(names, []string{"one", "two"}) {
		t.Errorf("after it there are %q, want one and two", names)
	}
}
