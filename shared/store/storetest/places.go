package storetest

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

var placeTests = []test{
	{"inbox/places", testPlaces},
	{"inbox/omitted", testOmitted},
	{"inbox/omitted, page by page", testOmittedPages},
	{"inbox/a run of omitted ones ends with the latest of them", testOmittedExpiry},
}

func testPlaces(t *testing.T, s store.Store) {
	soon := entry("d", 20, "m1")
	soon.ExpiresAt = base.Add(time.Minute)
	write(t, s, keyed(entry("c", 10, "m1"), "k"), keyed(entry("c", 11, "m2"), "k"), soon, entry("e", 30, "m1"), entry("d", 21, "m3"))
	got, err := s.Places(t.Context(), "m1", []push.Channel{"c", "d", "nowhere", "c"})
	check(t, err)
	want := map[push.Channel]store.Place{
		"c": {Offset: 10, ExpiresAt: base.Add(time.Hour), Superseded: true},
		"d": {Offset: 20, ExpiresAt: base.Add(time.Minute)},
	}
	if !maps.Equal(got, want) {
		t.Errorf("Places(m1) = %v, want %v", got, want)
	}
	got, err = s.Places(t.Context(), "unknown", []push.Channel{"c"})
	check(t, err)
	if len(got) != 0 {
		t.Errorf("Places(unknown) = %v, want nothing", got)
	}
}

// omittedRuns writes a channel whose entries are given (g), expired (e),
// superseded (s) or without message (m), at 10, 20, 30 and so on, and reads it.
func omittedRuns(t *testing.T, s store.Store, entries string) {
	t.Helper()
	var list []store.InboxEntry
	for i, kind := range entries {
		id := push.MessageID(fmt.Sprint("m", i))
		e := entry("c", push.Offset(10*(i+1)), id)
		switch kind {
		case 'e':
			e.ExpiresAt = base.Add(-time.Duration(i) * time.Second)
		case 's':
			list = append(list, keyed(entry("c", push.Offset(1000+i), push.MessageID(fmt.Sprint("newer", i))), fmt.Sprint("k", i)))
			e.CollapseKey = fmt.Sprint("k", i)
		}
		if kind != 'm' {
			insert(t, s, id)
		}
		list = append(list, e)
	}
	write(t, s, list...)
}

func runs(omitted []store.Omission) [][2]push.Offset {
	var list [][2]push.Offset
	for _, o := range omitted {
		list = append(list, [2]push.Offset{o.First, o.Last})
	}
	return list
}

func testOmitted(t *testing.T, s store.Store) {
	omittedRuns(t, s, "gesgmegse")
	tests := map[string]struct {
		after, upTo push.Offset
		silent      bool
		want        [][2]push.Offset
	}{
		"all":           {0, 999, false, [][2]push.Offset{{20, 30}, {60, 60}, {80, 90}}},
		"not asked for": {0, 999, true, nil},
		"within a run":  {20, 80, false, [][2]push.Offset{{30, 30}, {60, 60}, {80, 80}}},
		"none":          {60, 70, false, nil},
		"no upper end":  {60, 0, false, [][2]push.Offset{{80, 90}}},
	}
	for name, tt := range tests {
		page, err := s.ReadInbox(t.Context(), store.InboxQuery{Channel: "c", After: tt.after, UpTo: tt.upTo, Now: base, TellOmitted: !tt.silent})
		check(t, err)
		if got := runs(page.Omitted); !slices.Equal(got, tt.want) {
			t.Errorf("%s: between %d and %d the page omits %v, want %v", name, tt.after, tt.upTo, got, tt.want)
		}
	}
}

func testOmittedPages(t *testing.T, s store.Store) {
	omittedRuns(t, s, "gegesgge")
	q := store.InboxQuery{Channel: "c", UpTo: 999, Now: base, MaxEntries: 2, TellOmitted: true}
	var got [][][2]push.Offset
	for range 10 {
		page, err := s.ReadInbox(t.Context(), q)
		check(t, err)
		got = append(got, runs(page.Omitted))
		if !page.More {
			break
		}
		q.After = page.Entries[len(page.Entries)-1].Offset
	}
	want := [][][2]push.Offset{{{20, 20}}, {{40, 50}, {80, 80}}}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("page by page %v were omitted, want %v", got, want)
	}
}

func testOmittedExpiry(t *testing.T, s store.Store) {
	omittedRuns(t, s, "ees")
	page, err := s.ReadInbox(t.Context(), store.InboxQuery{Channel: "c", UpTo: 999, Now: base, TellOmitted: true})
	check(t, err)
	want := []store.Omission{{First: 10, Last: 30, ExpiresAt: base.Add(time.Hour)}}
	if !slices.Equal(page.Omitted, want) {
		t.Errorf("omitted %+v, want %+v", page.Omitted, want)
	}
}
