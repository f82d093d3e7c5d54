package storeurl

import (
	"errors"
	"fmt"
	"strings"

	"pushcluster/shared/store/mongostore"
)

var errUsage = errors.New("use sqlite:FILE or mongodb://HOST/DATABASE")

// Check returns nil if url is one that [Open] understands and, for a file, its
// directory exists. It opens, makes and asks nothing. No error shows user or
// password.
func Check(url string) error {
	k, rest, err := parse(url)
	if err != nil {
		return err
	}
	if k == kindMongo {
		return mongostore.Check(rest)
	}
	return checkSQLite(rest)
}

// A kind is a home of the store.
type kind int

// The kinds.
const (
	kindMongo kind = iota
	kindSQLite
)

// parse tells which home url names, and what that home is to open: a URI, or a
// path.
func parse(url string) (k kind, target string, err error) {
	scheme, rest, found := strings.Cut(url, ":")
	switch {
	case url == "":
		return 0, "", fmt.Errorf("the store's URL is empty: %w", errUsage)
	case !found:
		return 0, "", fmt.Errorf("the store's URL has no scheme: %w", errUsage)
	case strings.EqualFold(scheme, "mongodb"), strings.EqualFold(scheme, "mongodb+srv"):
		return kindMongo, strings.ToLower(scheme) + ":" + rest, nil
	case strings.EqualFold(scheme, "sqlite"):
		return kindSQLite, filePath(rest), nil
	}
	if !strings.HasPrefix(rest, "//") { // this may be anything, a password included
		return 0, "", fmt.Errorf("the store's URL has an unknown scheme: %w", errUsage)
	}
	return 0, "", fmt.Errorf("the store's URL has the scheme %.20q: %w", scheme, errUsage)
}

// filePath returns the path in what follows "sqlite:". People also write it
// with the slashes of other URLs: "sqlite:///a/b" is "/a/b".
func filePath(rest string) string {
	if path, ok := strings.CutPrefix(rest, "//"); ok {
		return path
	}
	return rest
}
