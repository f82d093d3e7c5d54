//go:build !nosqlite

package storeurl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"pushcluster/shared/store"
	"pushcluster/shared/store/sqlitestore"
)

func openSQLite(path string, cfg Config) (store.Store, error) {
	return sqlitestore.Open(path, sqlitestore.Config{Timeout: cfg.Timeout, Readers: cfg.Connections})
}

// checkSQLite returns nil if path names a file and its directory exists.
func checkSQLite(path string) error {
	if path == "" || path == ":memory:" {
		return errors.New("the store needs a file: name its path")
	}
	if at, err := os.Stat(path); err == nil && at.IsDir() {
		return fmt.Errorf("%s is a directory: name a file in it", path)
	}
	dir := filepath.Dir(path)
	if at, err := os.Stat(dir); err != nil {
		return fmt.Errorf("the directory of the store's file: %w", err)
	} else if !at.IsDir() {
		return fmt.Errorf("%s is no directory", dir)
	}
	return nil
}
