package source

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushcluster/shared/store"
)

// noSources is a store that holds none.
type noSources struct{}

func (noSources) ListSources(context.Context) ([]store.SourceRecord, error) { return nil, nil }

// TestFollow ends each time with no goroutine left, as TestMain sees.
func TestFollow(t *testing.T) {
	const good = "sources:\n  a: {verify: gitlab, secrets: x, rules: {to: {all: true}}}\n"
	tests := map[string]struct {
		file  string // "": none
		names string
		wrong string // what the error tells
	}{
		"no file":      {"", "", ""},
		"a file":       {good, "a", ""},
		"a wrong file": {"sources: [", "", "sources.yaml:\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Every: time.Millisecond}
			if tt.file != "" {
				cfg.Path = filepath.Join(t.TempDir(), "sources.yaml")
				write(t, cfg.Path, tt.file)
			}
			live, stop, err := Follow(t.Context(), cfg, noSources{}, resolve, slog.New(slog.DiscardHandler), nil)
			if err != nil || tt.wrong != "" {
				if err == nil || tt.wrong == "" || !strings.Contains(err.Error(), tt.wrong) || len(Faults(err)) != 1 {
					t.Errorf("Follow = %v, want an error with one fault that tells %q", err, tt.wrong)
				}
				return
			}
			defer stop()
			if got := strings.Join(live.Set(t.Context()).Names(), ","); got != tt.names {
				t.Errorf("the sources are %q, want %q", got, tt.names)
			}
			if cfg.Path == "" {
				return
			}
			os.Remove(cfg.Path) // nobody asks for the sources, so only who follows the file sees it
			for end := time.Now().Add(time.Minute); testutil.ToFloat64(live.file.metrics.broken) == 0; {
				if time.Now().After(end) {
					t.Fatal("a file that went away was not missed within a minute")
				}
			}
		})
	}
}
