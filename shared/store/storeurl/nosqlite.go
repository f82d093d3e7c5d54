//go:build nosqlite

package storeurl

import (
	"errors"

	"pushcluster/shared/store"
)

var errLeftOut = errors.New("this program was built without SQLite (build tag nosqlite): use mongodb://HOST/DATABASE")

// openSQLite refuses: a Lambda function has no file to share, so its binary
// leaves SQLite out.
func openSQLite(string, Config) (store.Store, error) { return nil, errLeftOut }

func checkSQLite(string) error { return errLeftOut }
