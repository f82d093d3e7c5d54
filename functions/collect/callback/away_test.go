package callback

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"pushcluster/functions/collect/rule"
	"pushcluster/functions/collect/source"
	"pushcluster/shared/store"
)

// A shelf is the sources of a store that may be away.
type shelf struct {
	store.Store
	away bool
}

func (s *shelf) ListSources(ctx context.Context) ([]store.SourceRecord, error) {
	if s.away {
		return nil, store.ErrUnavailable
	}
	return s.Store.ListSources(ctx)
}

// TestSourceAway: a callback is not given up because nobody can tell at the
// moment how its source is told; what has to be mended by somebody parks it as
// ever.
func TestSourceAway(t *testing.T) {
	const good = "verify: gitlab\nsecrets: x\nrules: {to: {all: true}}\n"
	tests := map[string]struct {
		definition string // HERE: the receiver's address
		storeAway  bool
		secretAway bool
		parked     string // part of the reason; "": it waits, however long
	}{
		"a secret":        {good + "callback: {url: HERE, secrets: 'arn:callback'}\n", false, true, ""},
		"another secret":  {strings.Replace(good, "secrets: x", "secrets: 'arn:x'", 1) + "callback: {url: HERE, secrets: " + secret + "}\n", false, true, ""},
		"the store":       {good + "callback: {url: HERE, secrets: " + secret + "}\n", true, false, ""},
		"it is wrong":     {good + "callback: {url: HERE}\n", false, false, "callback.secrets: is missing"},
		"it has none":     {good, false, false, "names no callback any more"},
		"it is not there": {"", false, false, "the source is not there"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			if tt.definition != "" {
				definition := strings.Replace(tt.definition, "HERE", r.server.URL+"/hook", 1)
				if err := r.store.PutSource(t.Context(), store.SourceRecord{Name: "shop", Definition: []byte(definition), UpdatedAt: start}, 1); err != nil {
					t.Fatal(err)
				}
			}
			compiler, err := rule.NewCompiler()
			if err != nil {
				t.Fatal(err)
			}
			sources, secretAway := &shelf{r.store, tt.storeAway}, tt.secretAway
			resolve := func(_ context.Context, value string) (string, error) {
				if secretAway && strings.HasPrefix(value, "arn:") {
					return "", errors.New("the vault is away")
				}
				return strings.Replace(value, "arn:callback", secret, 1), nil
			}
			r.live = source.NewLive(nil, sources, compiler, resolve, r.now, slog.New(slog.DiscardHandler))
			r.accept("shop/d.1/r", users("42"))
			r.place("shop/d.1/r", "#42", 100, "")
			r.move("42", "phone", "#42", 100, 0)
			for at := time.Minute; at < 30*time.Hour; at += 20 * time.Minute {
				r.at(at)
				r.sweep()
			}
			parked := r.parked()
			if tt.parked != "" {
				if len(parked) != 1 || !strings.Contains(parked[0].Reason, tt.parked) {
					t.Errorf("parked is %+v, want one for %q", parked, tt.parked)
				}
				return
			}
			if len(parked) != 0 {
				t.Errorf("parked is %+v, want nothing", parked)
			}
			sources.away, secretAway = false, false
			r.at(30 * time.Hour)
			r.sweep()
			if got := names(r.told()); got != "received #42" {
				t.Errorf("told %q once it is there, want that it is received", got)
			}
		})
	}
}
