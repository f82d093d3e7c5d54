//go:build !nosqlite

package storeurl

import (
	"pushcluster/shared/store"
	"pushcluster/shared/store/sqlitestore"
)

func openSQLite(path string, cfg Config) (store.Store, error) {
	return sqlitestore.Open(path, sqlitestore.Config{Timeout: cfg.Timeout, Readers: cfg.Connections})
}
