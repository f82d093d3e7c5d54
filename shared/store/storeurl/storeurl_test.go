package storeurl_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"pushcluster/shared/store/storeurl"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOpenRefuses(t *testing.T) {
	tests := map[string]struct {
		url  string
		want string // part of the error
	}{
		"empty":                    {"", "sqlite:FILE or mongodb://"},
		"no scheme":                {"localhost", "no scheme"},
		"another scheme":           {"postgres://ann:hunter2@db/x", `"postgres"`},
		"a key for a scheme":       {"ann_hunter2_is_a_long_secret:x", "scheme"},
		"mongodb without host":     {"mongodb://", "no host"},
		"mongodb without slashes":  {"mongodb:ann:hunter2@db", "mongodb://"},
		"mongodb, bad escape":      {"mongodb://ann:hunter2%zz@db/x", "percent-encoded"},
		"mongodb, slash in secret": {"mongodb://ann:hunter2/@db/x", "percent-encoded"},
		"mongodb, at in secret":    {"mongodb://ann:hunter2@x@db/x", "percent-encoded"},
		"mongodb, bad option":      {"mongodb://ann:hunter2@db/x?w=hunter2%zz", "store's URL"},
		"mongodb, bad database":    {"mongodb://ann:hunter2@db/x$y", "no name for a database"},
		"mongodb, bad maxUpdates":  {"mongodb://ann:hunter2@db/x?maxUpdates=many", "maxUpdates"},
		"mongodb, bad mechanism":   {"mongodb://ann:hunter2@db/x?authMechanism=hunter2", "store's URL"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := storeurl.Open(t.Context(), tt.url, storeurl.Config{})
			if err == nil {
				_ = s.Close()
				t.Fatalf("Open(%q) succeeded", tt.url)
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("Open(%q): %q, want it to say %q and nothing secret", tt.url, err, tt.want)
			}
			err = storeurl.Check(tt.url)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("Check(%q): %v, want it to say %q and nothing secret", tt.url, err, tt.want)
			}
		})
	}
}

// The hosts are addresses: what looks names up may go on after Close.
func TestOpenMongo(t *testing.T) {
	for _, url := range []string{
		"mongodb://127.0.0.1:1", "MongoDB://127.0.0.1:1/push", "mongodb://ann:hunter2@127.0.0.1:1,127.0.0.1:2/push?replicaSet=rs&maxUpdates=40",
	} {
		if err := storeurl.Check(url); err != nil {
			t.Errorf("Check(%q): %v", url, err)
		}
		s, err := storeurl.Open(t.Context(), url, storeurl.Config{})
		if err != nil {
			t.Errorf("Open(%q): %v", url, err)
			continue
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

func TestOpenAfterTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := storeurl.Open(ctx, "mongodb://127.0.0.1:1", storeurl.Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with a context that ended: %v, want %v", err, context.Canceled)
	}
}
