package mongostore_test

import (
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

func BenchmarkWriteInbox(b *testing.B) { storetest.BenchmarkWriteInbox(b, prepared) }

func BenchmarkReadInbox(b *testing.B) { storetest.BenchmarkReadInbox(b, prepared(b)) }

func BenchmarkLastOffsets(b *testing.B) { storetest.BenchmarkLastOffsets(b, prepared) }

func BenchmarkLoadCursors(b *testing.B) { storetest.BenchmarkLoadCursors(b, prepared) }

func BenchmarkTermLasts(b *testing.B) { storetest.BenchmarkTermLasts(b, prepared(b)) }
