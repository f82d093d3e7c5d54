package source

import (
	"context"
	"errors"
	"log/slog"
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
