package storetest

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"pushcluster/shared/store"
)

var sourceTests = []test{
	{"sources/keep, replace, remove", testSources},
	{"sources/full", testSourcesFull},
}

const manySources = 100

func testSources(t *testing.T, s store.Store) {
	want := func(records ...store.SourceRecord) {
		t.Helper()
		list, err := s.ListSources(t.Context())
		check(t, err)
		if len(list) != len(records) {
			t.Fatalf("the sources are %+v, want %+v", list, records)
		}
		for i, r := range records {
			if got := list[i]; got.Name != r.Name || !bytes.Equal(got.Definition, r.Definition) || !got.UpdatedAt.Equal(r.UpdatedAt) {
				t.Errorf("source %d is %+v, want %+v", i, got, r)
			}
		}
	}
	want()
	b := store.SourceRecord{Name: "b", Definition: []byte("verify: github\n\x00\xff"), UpdatedAt: base}
	a := store.SourceRecord{Name: "A.b-c_1", Definition: []byte("{}"), UpdatedAt: base.Add(time.Second)}
	check(t, s.PutSource(t.Context(), b, manySources))
	check(t, s.PutSource(t.Context(), a, manySources))
	want(a, b)
	b.Definition, b.UpdatedAt = []byte("verify: gitlab"), base.Add(time.Minute)
	check(t, s.PutSource(t.Context(), b, manySources))
	want(a, b)
	for _, step := range []struct {
		name string
		was  bool
	}{{"c", false}, {"b", true}, {"b", false}} {
		removed, err := s.RemoveSource(t.Context(), step.name)
		check(t, err)
		if removed != step.was {
			t.Errorf("remove %q = %v, want %v", step.name, removed, step.was)
		}
	}
	want(a)
}

func testSourcesFull(t *testing.T, s store.Store) {
	put := func(name string, most int) error {
		return s.PutSource(t.Context(), store.SourceRecord{Name: name, Definition: []byte("x"), UpdatedAt: base}, most)
	}
	check(t, put("a", 2))
	check(t, put("b", 2))
	if err := put("c", 2); !errors.Is(err, store.ErrFull) {
		t.Errorf("a third of two = %v, want ErrFull", err)
	}
	check(t, put("b", 2)) // it is there already
	list, err := s.ListSources(t.Context())
	check(t, err)
	if len(list) != 2 {
		t.Errorf("%d sources are kept, want 2", len(list))
	}
}
