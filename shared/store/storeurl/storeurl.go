// Package storeurl opens the durable store that a STORE_URL names.
package storeurl

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	scheme, rest, found := strings.Cut(url, ":")
	switch {
	case url == "":
		return nil, errors.New("the store's URL is empty: use sqlite:FILE or mongodb://HOST/DATABASE")
	case !found:
		return nil, errors.New("the store's URL has no scheme: use sqlite:FILE or mongodb://HOST/DATABASE")
	case strings.EqualFold(scheme, "mongodb"), strings.EqualFold(scheme, "mongodb+srv"):
		return mongostore.Open(strings.ToLower(scheme)+":"+rest, mongostore.Config{Timeout: cfg.Timeout, Connections: cfg.Connections})
	case strings.EqualFold(scheme, "sqlite"):
		return openSQLite(filePath(rest), cfg)
	}
	if !strings.HasPrefix(rest, "//") { // this may be anything, a password included
		return nil, errors.New("the store's URL has an unknown scheme: use sqlite:FILE or mongodb://HOST/DATABASE")
	}
	return nil, fmt.Errorf("the store's URL has the scheme %.20q: use sqlite:FILE or mongodb://HOST/DATABASE", scheme)
}

// filePath returns the path in what follows "sqlite:". People also write it
// with the slashes of other URLs: "sqlite:///a/b" is "/a/b".
func filePath(rest string) string {
	if path, ok := strings.CutPrefix(rest, "//"); ok {
		return path
	}
	return rest
}
