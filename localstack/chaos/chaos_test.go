package chaos

import (
	"errors"
	"os"
	"testing"

	"go.uber.org/goleak"

	"pushcluster/localstack/build"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestShort runs the short form: make chaos runs the long one.
func TestShort(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped with -short")
	}
	root, err := build.Root()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := Run(t.Context(), Options{Root: root, Dir: t.TempDir(), Out: t.Output(), Seed: 1, Short: true})
	if errors.Is(err, ErrNoRedis) && os.Getenv("CI") != "true" {
		t.Skip("skipped: no redis-server is on PATH")
	}
	if err != nil {
		t.Fatal(err)
	}
	PrintTable(t.Output(), rows)
	for i := range rows {
		if !rows[i].OK() {
			t.Errorf("scenario %d is red", rows[i].Scenario)
		}
	}
}

func TestParseOnly(t *testing.T) {
	tests := map[string]struct {
		list string
		want int // how many; -1: an error
	}{
		"nothing": {"", 0}, "one": {"4", 1}, "several": {"1, 6,9", 3}, "no number": {"x", -1}, "no such": {"99", -1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ParseOnly(tt.list)
			if (err != nil) != (tt.want < 0) || err == nil && len(got) != tt.want {
				t.Errorf("ParseOnly(%q) = %v, %v, want %d", tt.list, got, err, tt.want)
			}
		})
	}
}
