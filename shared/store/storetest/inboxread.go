package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

func testEntryFields(t *testing.T, s store.Store) {
	r := message("m1")
	r.Event, r.CollapseKey, r.Trace, r.Data = "e", "k", "tr", json.RawMessage(`{ "a": 1.0 }`)
	r.To = push.Recipients{Users: []push.UserID{"42"}}
	_, err := s.InsertMessages(t.Context(), []store.Record{r})
	check(t, err)
	write(t, s, keyed(entry("c", 10, "m1"), "k"))

	got := read(t, s, store.InboxQuery{Channel: "c"})
	r.To = push.Recipients{}
	want := []push.Entry{{Channel: "c", Offset: 10, Message: &r.Message}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("ReadInbox = %+v of %+v,\nwant %+v of %+v", got, got[0].Message, want, want[0].Message)
	}
}

func testRange(t *testing.T, s store.Store) {
	for i := range 5 {
		id := push.MessageID(fmt.Sprint("m", i))
		insert(t, s, id)
		write(t, s, entry("c", push.Offset(50-10*i), id), entry("cc", push.Offset(i+1), id), entry("b", push.Offset(i+1), id))
	}
	tests := map[string]struct {
		after, upTo push.Offset
		want        []push.Offset
	}{
		"all":                   {0, 0, []push.Offset{10, 20, 30, 40, 50}},
		"after is left out":     {20, 0, []push.Offset{30, 40, 50}},
		"after between":         {25, 0, []push.Offset{30, 40, 50}},
		"up to is included":     {0, 30, []push.Offset{10, 20, 30}},
		"both":                  {10, 40, []push.Offset{20, 30, 40}},
		"empty":                 {40, 40, nil},
		"the wrong way round":   {40, 10, nil},
		"behind the last":       {50, 0, nil},
		"from beyond any place": {1<<64 - 1, 0, nil},
	}
	for name, tt := range tests {
		page, err := s.ReadInbox(t.Context(), store.InboxQuery{Channel: "c", After: tt.after, UpTo: tt.upTo, Now: base})
		check(t, err)
		var got []push.Offset
		for _, e := range page.Entries {
			got = append(got, e.Offset)
		}
		if !slices.Equal(got, tt.want) || page.More {
			t.Errorf("%s: reading after %d up to %d gives %v, more %v; want %v", name, tt.after, tt.upTo, got, page.More, tt.want)
		}
	}
}

func testPageEntries(t *testing.T, s store.Store) {
	var want []push.Offset
	for i := range push.Offset(10) {
		id := push.MessageID(fmt.Sprint("m", i))
		insert(t, s, id)
		write(t, s, entry("c", i+1, id))
		want = append(want, i+1)
	}
	for _, size := range []int{1, 3, 9, 10, 11} {
		q := store.InboxQuery{Channel: "c", Now: base, MaxEntries: size}
		page, err := s.ReadInbox(t.Context(), q)
		check(t, err)
		if n := min(size, 10); len(page.Entries) != n || size < 10 && !page.More || size > 10 && page.More {
			t.Errorf("a page of %d: %d entries, more %v", size, len(page.Entries), page.More)
		}
		var got []push.Offset
		for _, e := range read(t, s, q) {
			got = append(got, e.Offset)
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %v, want %v", size, got, want)
		}
	}
}

func testPageBytes(t *testing.T, s store.Store) {
	for i, size := range []int{100, 100, 100, 1000, 10, 10} {
		r := message(push.MessageID(fmt.Sprint("m", i)))
		r.Data = bytes.Repeat([]byte("1"), size)
		_, err := s.InsertMessages(t.Context(), []store.Record{r})
		check(t, err)
		write(t, s, entry("c", push.Offset(i+1), r.ID))
	}
	tests := map[string]struct {
		most int
		want []int // entries of each page
	}{
		"one at least":            {1, []int{1, 1, 1, 1, 1, 1}},
		"two fit":                 {200, []int{2, 1, 1, 2}},
		"the third is too much":   {299, []int{2, 1, 1, 2}},
		"three fit":               {300, []int{3, 1, 2}},
		"the large one alone":     {1009, []int{3, 1, 2}},
		"the large one, and more": {1020, []int{3, 3}},
		"all":                     {1320, []int{6}},
	}
	for name, tt := range tests {
		var got []int
		q := store.InboxQuery{Channel: "c", Now: base, MaxBytes: tt.most}
		for len(got) < 10 {
			page, err := s.ReadInbox(t.Context(), q)
			check(t, err)
			got = append(got, len(page.Entries))
			if !page.More {
				break
			}
			q.After = page.Entries[len(page.Entries)-1].Offset
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: pages of at most %d bytes hold %v entries, want %v", name, tt.most, got, tt.want)
		}
	}
}

func testDefaultPage(t *testing.T, s store.Store) {
	small, large := message("small"), message("large")
	large.Data = bytes.Repeat([]byte("1"), push.MaxData)
	var records []store.Record
	var entries []store.InboxEntry
	for i := range store.DefaultPageEntries + 1 {
		small.ID = push.MessageID(fmt.Sprint("small", i))
		records, entries = append(records, small), append(entries, entry("many", push.Offset(i+1), small.ID))
	}
	for i := range 6 {
		large.ID = push.MessageID(fmt.Sprint("large", i))
		records, entries = append(records, large), append(entries, entry("heavy", push.Offset(i+1), large.ID))
	}
	_, err := s.InsertMessages(t.Context(), records)
	check(t, err)
	write(t, s, entries...)
	for channel, want := range map[push.Channel]int{"many": store.DefaultPageEntries, "heavy": store.DefaultPageBytes / push.MaxData} {
		page, err := s.ReadInbox(t.Context(), store.InboxQuery{Channel: channel, Now: base})
		check(t, err)
		if len(page.Entries) != want || !page.More {
			t.Errorf("channel %s: a page without bounds holds %d entries, more %v; want %d and more", channel, len(page.Entries), page.More, want)
		}
	}
}

func testExpiry(t *testing.T, s store.Store) {
	insert(t, s, "m1", "m2", "m3")
	first, second := entry("c", 10, "m1"), entry("c", 11, "m2")
	first.ExpiresAt, second.ExpiresAt = base.Add(time.Second), base.Add(time.Minute)
	write(t, s, first, second, entry("c", 12, "m3"))
	for name, tt := range map[string]struct {
		now  time.Time
		want []push.Offset
	}{
		"before":                {base.Add(time.Second - time.Millisecond), []push.Offset{10, 11, 12}},
		"at its expiry it goes": {base.Add(time.Second), []push.Offset{11, 12}},
		"after":                 {base.Add(2 * time.Minute), []push.Offset{12}},
		"all":                   {base.Add(2 * time.Hour), nil},
	} {
		var got []push.Offset
		for _, e := range read(t, s, store.InboxQuery{Channel: "c", Now: tt.now, MaxEntries: 1}) {
			got = append(got, e.Offset)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: reading at base+%v gives %v, want %v", name, tt.now.Sub(base), got, tt.want)
		}
	}
}

func testMessageGone(t *testing.T, s store.Store) {
	insert(t, s, "here")
	var entries []store.InboxEntry
	for i := range push.Offset(70) {
		entries = append(entries, entry("c", i+1, push.MessageID(fmt.Sprint("gone", i))))
	}
	write(t, s, append(entries, entry("c", 100, "here"), entry("c", 101, "gone"))...)
	for _, size := range []int{1, 5, 0} {
		var got []push.Offset
		for _, e := range read(t, s, store.InboxQuery{Channel: "c", MaxEntries: size}) {
			got = append(got, e.Offset)
		}
		if want := []push.Offset{100}; !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %v, want %v", size, got, want)
		}
	}
}
