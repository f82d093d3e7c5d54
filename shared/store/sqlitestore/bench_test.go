package sqlitestore_test

import (
	"path/filepath"
	"testing"

	"pushcluster/shared/store/sqlitestore"
	"pushcluster/shared/store/storetest"
)

func prepared(b *testing.B) *sqlitestore.Store {
	s := open(b, filepath.Join(b.TempDir(), "store.db"))
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
