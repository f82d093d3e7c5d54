package sqlitestore_test

import (
	"fmt"
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
