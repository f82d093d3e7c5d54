//go:build !nosqlite

package storeurl_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"pushcluster/shared/store/storeurl"
)

func TestOpenSQLite(t *testing.T) {
	for _, prefix := range []string{"sqlite:", "SQLite:", "sqlite://"} {
		path := filepath.Join(t.TempDir(), "a b?c#d%20.db")
		if err := storeurl.Check(prefix + path); err != nil {
			t.Errorf("Check(%q): %v", prefix+path, err)
		}
		s, err := storeurl.Open(t.Context(), prefix+path, storeurl.Config{Timeout: time.Minute})
		if err != nil {
			t.Fatalf("Open(%q): %v", prefix+path, err)
		}
		if err := s.Prepare(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s made no file of that name: %v", prefix, err)
		}
	}
	for _, url := range []string{"sqlite:", "sqlite::memory:", "sqlite:" + filepath.Join(t.TempDir(), "missing", "x.db"), "sqlite:" + t.TempDir()} {
		if err := storeurl.Check(url); err == nil {
			t.Errorf("Check(%q) = nil", url)
		}
		if s, err := storeurl.Open(t.Context(), url, storeurl.Config{}); err == nil {
			_ = s.Close()
			t.Errorf("Open(%q) succeeded", url)
		}
	}
}
