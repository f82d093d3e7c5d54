//go:build nosqlite

package storeurl_test

import (
	"strings"
	"testing"

	"pushcluster/shared/store/storeurl"
)

func TestOpenSQLiteLeftOut(t *testing.T) {
	_, err := storeurl.Open(t.Context(), "sqlite:x.db", storeurl.Config{})
	if err == nil || !strings.Contains(err.Error(), "nosqlite") {
		t.Errorf("Open without SQLite: %v, want an error that names the build tag", err)
	}
}
