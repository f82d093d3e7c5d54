package mongostore_test

import (
	"fmt"
	"os"
	"testing"

	"pushcluster/shared/store/mongostore"
	"pushcluster/shared/store/storetest"
)

// prepared opens a new database on the server of MONGO_URL. FerretDB's speed
// says nothing about MongoDB's.
func prepared(b *testing.B) *mongostore.Store {
	uri := os.Getenv("MONGO_URL")
	if uri == "" {
		b.Skip("skipped, because MONGO_URL names no server")
	}
	s := open(b, namer(uri)())
	if err := s.Prepare(b.Context()); err != nil {
		b.Fatal(err)
	}
	return s
}

func BenchmarkInsertMessages(b *testing.B) { storetest.BenchmarkInsertMessages(b, prepared(b)) }

func BenchmarkWriteInbox(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) { storetest.BenchmarkWriteInbox(b, prepared(b), n) })
	}
}

func BenchmarkLastOffsets(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("channels=%d", n), func(b *testing.B) { storetest.BenchmarkLastOffsets(b, prepared(b), n) })
	}
}

func BenchmarkLoadCursors(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("devices=%d", n), func(b *testing.B) { storetest.BenchmarkLoadCursors(b, prepared(b), n) })
	}
}
