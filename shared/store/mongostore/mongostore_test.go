package mongostore_test

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/shared/store"
	"pushcluster/shared/store/mongostore"
	"pushcluster/shared/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// onServers runs test on FerretDB and, if MONGO_URL is set, on that server.
// fresh returns the URI of a database there that nobody uses yet.
func onServers(t *testing.T, test func(t *testing.T, fresh func() string)) {
	t.Run("FerretDB", func(t *testing.T) { test(t, namer(storetest.FerretDB(t))) })
	t.Run("MONGO_URL", func(t *testing.T) {
		uri := os.Getenv("MONGO_URL")
		if uri == "" {
			t.Skip("skipped, because MONGO_URL names no server")
		}
		test(t, namer(uri))
	})
}

// namer returns a function that returns uri with another new database each time.
func namer(uri string) func() string {
	scheme, rest, _ := strings.Cut(uri, "://")
	rest, query, hasQuery := strings.Cut(rest, "?")
	host, _, _ := strings.Cut(rest, "/")
	return func() string {
		fresh := scheme + "://" + host + "/test_" + strings.ToLower(rand.Text()[:12])
		if hasQuery {
			fresh += "?" + query
		}
		return fresh
	}
}

// open opens the store at uri for the length of the test, and drops its
// database then.
func open(t testing.TB, uri string) *mongostore.Store {
	t.Helper()
	s, err := mongostore.Open(uri, mongostore.Config{Timeout: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Close() // some tests have done so
		last, err := mongostore.Open(uri, mongostore.Config{Timeout: 2 * time.Minute})
		if err != nil {
			t.Error(err)
			return
		}
		if err := last.Drop(context.Background()); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
		if err := last.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestContract(t *testing.T) {
	onServers(t, func(t *testing.T, fresh func() string) {
		storetest.Run(t, func(t *testing.T) store.Store { return open(t, fresh()) })
	})
}

func TestContractTwoProcesses(t *testing.T) {
	onServers(t, func(t *testing.T, fresh func() string) {
		storetest.RunPair(t, func(t *testing.T) (a, b store.Store) {
			uri := fresh()
			return open(t, uri), open(t, uri)
		})
	})
}
