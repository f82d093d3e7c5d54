package source

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFile edits a file while it is followed.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sources.yaml")
	var logged bytes.Buffer
	var secret atomic.Value
	secret.Store("first")
	lookUps := 0
	f := NewFile(Config{Path: path}, newCompiler(t), func(context.Context, string) (string, error) {
		lookUps++
		return secret.Load().(string), nil
	}, slog.New(slog.NewTextHandler(&logged, nil)), prometheus.NewRegistry())
	one := "sources:\n  a: {verify: gitlab, secrets: env:X, rules: {to: {all: true}}}\n"
	two := strings.Replace(one, "  a:", "  b: ", 1) // longer: the file system's clock may stand still

	if err := f.Load(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("Load of no file = %v", err)
	}
	write(t, path, "sources: {a: {}}")
	if err := f.Load(t.Context()); len(Faults(err)) != 3 {
		t.Fatalf("Load of a broken file = %v, want 3 faults", err)
	}
	write(t, path, one)
	if err := f.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	steps := []struct {
		what   string
		change func()
		after  time.Duration // since Load
		names  string
		logged string // part of what is logged; "" nothing is
		broken float64
	}{
		{"nothing", func() {}, 2 * time.Second, "a", "", 0},
		{"edited, too soon to look", func() { write(t, path, two) }, 2*time.Second + time.Millisecond, "a", "", 0},
		{"looked at once", func() {}, 4 * time.Second, "a", "", 0},
		{"looked at twice", func() {}, 5 * time.Second, "b", "sources read", 0},
		{"about to be saved", func() { write(t, path, "") }, 6 * time.Second, "b", "", 0},
		{"half saved", func() { write(t, path, "sources:\n") }, 7 * time.Second, "b", "", 0},
		{"saved, broken", func() { write(t, path, two+"  c: {}\n") }, 8 * time.Second, "b", "", 0},
		{"broken", func() {}, 9 * time.Second, "b", "line=3 column=6 field=sources.c.verify", 1},
		{"still broken, told once", func() {}, 10 * time.Second, "b", "", 1},
		{"broken in another way", func() { write(t, path, "sources: [") }, 11 * time.Second, "b", "", 1},
		{"found to be", func() {}, 12 * time.Second, "b", "not YAML", 1},
		{"taken away", func() { os.Remove(path) }, 13 * time.Second, "b", "no such file", 1},
		{"repaired", func() { write(t, path, one+two[len("sources:\n"):]) }, 14 * time.Second, "b", "", 1},
		{"found to be good", func() {}, 15 * time.Second, "a,b", "good again", 0},
		{"empty and left so", func() { write(t, path, "") }, 16 * time.Second, "a,b", "", 0},
		{"found to be empty", func() {}, 17 * time.Second, "", "sources=0", 0},
		{"filled", func() { write(t, path, one+two[len("sources:\n"):]) }, 18 * time.Second, "", "", 0},
		{"found filled", func() {}, 19 * time.Second, "a,b", "sources=2", 0},
		{"another secret", func() { secret.Store("second") }, 90 * time.Second, "a,b", "sources read", 0},
		{"a minute later", func() {}, 160 * time.Second, "a,b", "", 0},
	}
	for _, step := range steps {
		logged.Reset()
		step.change()
		f.Refresh(t.Context(), now.Add(step.after))
		if got := strings.Join(f.set.Load().Names(), ","); got != step.names {
			t.Errorf("%s: the sources are %s, want %s", step.what, got, step.names)
		}
		if !strings.Contains(logged.String(), step.logged) || step.logged == "" && logged.Len() > 0 {
			t.Errorf("%s: logged %q, want %q", step.what, logged.String(), step.logged)
		}
		if got := testutil.ToFloat64(f.metrics.broken); got != step.broken {
			t.Errorf("%s: the gauge says %v, want %v", step.what, got, step.broken)
		}
		if strings.Contains(logged.String(), "first") || strings.Contains(logged.String(), "second") {
			t.Errorf("%s: the log tells a secret: %s", step.what, logged.String())
		}
	}
	before := lookUps
	for i := range 50 {
		f.Refresh(t.Context(), now.Add(161*time.Second+time.Duration(i)*time.Second))
	}
	if lookUps != before {
		t.Errorf("secrets were looked up %d times within a minute", lookUps-before)
	}
}

// TestFileRun edits a file while a process runs and requests come.
func TestFileRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sources.yaml")
	write(t, path, "sources:\n")
	f := NewFile(Config{Path: path, Every: time.Millisecond}, newCompiler(t), resolve, slog.New(slog.DiscardHandler), nil)
	if err := f.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	})
	write(t, path, "sources:\n  a: {verify: gitlab, secrets: x, rules: {to: {all: true}}}\n")
	deadline := time.Now().Add(time.Minute)
	for len(f.Set(ctx).Names()) == 0 && time.Now().Before(deadline) {
	}
	if _, err := f.Set(ctx).Source(ctx, "a"); err != nil {
		t.Error("the new source was not found within a minute")
	}
	cancel()
	wg.Wait()
}
