package sqlitestore_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/shared/store"
	"pushcluster/shared/store/sqlitestore"
	"pushcluster/shared/store/storetest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		os.Exit(child(path))
	}
	goleak.VerifyTestMain(m)
}

// open opens the store in path for the length of the test.
func open(t testing.TB, path string) *sqlitestore.Store {
	t.Helper()
	s, err := sqlitestore.Open(path, sqlitestore.Config{Timeout: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, filepath.Join(t.TempDir(), "store.db")) })
}

func TestContractTwoOpeners(t *testing.T) {
	storetest.RunPair(t, func(t *testing.T) (a, b store.Store) {
		path := filepath.Join(t.TempDir(), "store.db")
		return open(t, path), open(t, path)
	})
}
