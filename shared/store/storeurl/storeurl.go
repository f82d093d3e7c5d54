// Package storeurl opens the durable store that a STORE_URL names.
package storeurl

import (
	"context"
	"fmt"
	"time"

	"pushcluster/shared/store"
	"pushcluster/shared/store/mongostore"
)

// A Config tunes the store. Its zero value is good.
type Config struct {
	Timeout     time.Duration // of a call whose context ends later or never; 0: 5 s
	Connections int           // to the server, or for reading the file; 0: the home's own default
}

// Open opens the store at url:
//
//	sqlite:FILE                      a file on this machine; FILE is a path
//	mongodb://HOST[,HOST…]/DATABASE  MongoDB, DocumentDB or FerretDB; the
//	mongodb+srv://HOST/DATABASE      database is "pushcluster" if it is left out
//
// The caller closes the store. Open neither asks a server (a program may start
// while the store is away: Ping tells) nor calls Prepare. If ctx has ended it
// opens nothing. No error shows user or password.
func Open(ctx context.Context, url string, cfg Config) (store.Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	k, target, err := parse(url)
	if err != nil {
		return nil, err
	}
	if k == kindMongo {
		return mongostore.Open(target, mongostore.Config{Timeout: cfg.Timeout, Connections: cfg.Connections})
	}
	return openSQLite(target, cfg)
}
