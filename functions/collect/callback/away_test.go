package callback

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushcluster/functions/collect/rule"
	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
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

// stock puts the source shop into the store, with a callback whose secret is
// elsewhere, and has a process that knows nothing of it yet look there.
func (r *rig) stock(resolve source.Resolve) {
	r.t.Helper()
	definition := "verify: gitlab\nsecrets: x\nrules: {to: {all: true}}\ncallback: {url: '" + r.server.URL + "/hook', secrets: 'arn:callback'}\n"
	if err := r.store.PutSource(r.t.Context(), store.SourceRecord{Name: "shop", Definition: []byte(definition), UpdatedAt: start}, 1); err != nil {
		r.t.Fatal(err)
	}
	compiler, err := rule.NewCompiler()
	if err != nil {
		r.t.Fatal(err)
	}
	r.live = source.NewLive(nil, r.store, compiler, resolve, r.now, slog.New(slog.DiscardHandler))
}

// vaultAway finds no secret that is elsewhere.
func vaultAway(_ context.Context, value string) (string, error) {
	if strings.HasPrefix(value, "arn:") {
		return "", errors.New("the vault is away")
	}
	return value, nil
}

// vaultThere finds the secret of callbacks.
func vaultThere(_ context.Context, value string) (string, error) {
	return strings.Replace(value, "arn:callback", secret, 1), nil
}

// TestSecretGoneForGood: what waits for a secret that never comes is seen, and
// parked before it would be forgotten.
func TestSecretGoneForGood(t *testing.T) {
	r := newRig(t)
	r.stock(vaultAway)
	r.accept("shop/d.1/r", users("42"))
	r.place("shop/d.1/r", "#42", 100, "")
	r.move("42", "phone", "#42", 100, 0)
	until := time.Hour + push.RepeatWindow
	var parkedAt time.Duration
	for at := time.Minute; at < until && parkedAt == 0; at += 20 * time.Minute {
		r.at(at)
		r.sweep()
		if len(r.parked()) > 0 {
			parkedAt = at
		}
	}
	if left := until - parkedAt; parkedAt == 0 || left > 24*time.Hour || left < 23*time.Hour {
		t.Errorf("it is parked %s before it is forgotten, want about a day", left)
	}
	if list := r.parked(); len(list) != 1 || !strings.Contains(list[0].Reason, "the vault is away") {
		t.Errorf("parked is %+v, want one for the vault", list)
	}
	count := func(outcome string) float64 {
		return testutil.ToFloat64(r.sweeper.metrics.callbacks.WithLabelValues("shop", outcome))
	}
	if postponed, failed, parked := count("postponed"), count("failed"), count("parked"); postponed < 100 || failed != 0 || parked != 1 {
		t.Errorf("counted are %v postponed, %v failed, %v parked; want more than 100, 0 and 1", postponed, failed, parked)
	}
	r.stock(vaultThere)
	if ok, err := r.store.ReplayCallback(t.Context(), "shop/d.1/r", r.now()); !ok || err != nil {
		t.Fatalf("its replay: %v, %v", ok, err)
	}
	r.at(parkedAt + time.Hour)
	r.sweep()
	if got := names(r.told()); got != "received #42" {
		t.Errorf("told %q once it is replayed, want that it is received", got)
	}
}

// TestAwayIsNoFailure: the time in which nobody knows how a source is told does
// not count as its receiver's failing.
func TestAwayIsNoFailure(t *testing.T) {
	r := newRig(t)
	r.stock(vaultThere)
	r.accept("shop/d.1/r", users("42"))
	r.place("shop/d.1/r", "#42", 100, "")
	r.move("42", "phone", "#42", 100, 0)
	r.answers(status(500))
	r.at(time.Minute)
	r.sweep()
	r.stock(vaultAway)
	for at := time.Hour; at < 25*time.Hour; at += time.Hour {
		r.at(at)
		r.sweep()
	}
	r.stock(vaultThere)
	r.at(26 * time.Hour)
	r.sweep()
	if got := names(r.told()); got != "received #42, received #42" {
		t.Fatalf("told %q, want twice that it is received", got)
	}
	if list := r.parked(); len(list) != 0 {
		t.Errorf("parked is %+v, want nothing: its receiver was asked twice, and a day between nobody", list)
	}
}

// A hurry is the sources of a sweep whose time is over once it has them.
type hurry struct {
	Sources
	end context.CancelFunc
}

func (h hurry) Set(ctx context.Context) *source.Set {
	defer h.end()
	return h.Sources.Set(ctx)
}

// TestSweepOutOfTime: that a sweep's own time is over says nothing of a source,
// which is told by the next one.
func TestSweepOutOfTime(t *testing.T) {
	r := newRig(t)
	r.stock(vaultThere)
	r.accept("shop/d.1/r", users("42"))
	r.place("shop/d.1/r", "#42", 100, "")
	r.move("42", "phone", "#42", 100, 0)
	r.at(time.Minute)
	ctx, end := context.WithCancel(t.Context())
	r.sweeper.sources = hurry{r, end}
	if n, err := r.sweeper.Sweep(ctx); n != 1 || err != nil {
		t.Fatalf("the sweep out of time: %d, %v", n, err)
	}
	r.sweeper.sources = r
	r.sweep()
	if got := names(r.told()); got != "received #42" {
		t.Errorf("the next sweep told %q, want that it is received", got)
	}
	if log := r.logged.String(); strings.Contains(log, "cannot be told") {
		t.Errorf("the source is blamed: %s", log)
	}
}
