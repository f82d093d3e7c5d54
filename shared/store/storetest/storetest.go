// Package storetest proves that a home of the durable store keeps the contract
// of package store: one suite that runs on each of them. It also starts the
// FerretDB process that stands in for MongoDB (see [FerretDB]).
package storetest

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// Run tests every promise of the contract on stores that open returns. Each
// call of open must return an empty store on which Prepare was not called;
// open closes it, and removes its data, by t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, tt := range slices.Concat(messageTests, inboxTests, collapseTests, placeTests, outboxTests, orderTests, parkedTests, cursorTests, deviceTests, crowdTests, controlTests, revocationTests, sourceTests, deliveryTests, callbackTests, lifeTests) {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			prepare(t, s)
			tt.run(t, s)
		})
	}
	for _, tt := range raceTests {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			prepare(t, s)
			tt.run(t, []store.Store{s})
		})
	}
}

// RunPair tests what must hold between two processes: open returns two stores
// that share the same, empty data.
func RunPair(t *testing.T, open func(t *testing.T) (a, b store.Store)) {
	for _, tt := range raceTests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := open(t)
			together(2, func(i int) { prepare(t, []store.Store{a, b}[i]) })
			tt.run(t, []store.Store{a, b})
		})
	}
}

// A test is one promise, tried on an empty, prepared store.
type test struct {
	name string
	run  func(*testing.T, store.Store)
}

// A raceTest is a promise about concurrent calls. The stores share their data.
type raceTest struct {
	name string
	run  func(*testing.T, []store.Store)
}

// oddNames are valid in every id and channel, and easy to get wrong in a query.
var oddNames = []string{
	"a.b", ".", "$where", "$", "room:7", "a/b//c", "with space", "ключ", "日本語", "'quoted\"", "100%2F", `back\slash`,
	"<&>", "[1]", "a", "A", "ab", "-1", "0", "null", "~", "`x`", "a;b", "\u00e4", "a\u0308",
}

// base is when tests take place: now, because MongoDB's own expiry goes by the
// real clock.
var base = time.Now().UTC().Truncate(time.Millisecond)

func prepare(t *testing.T, s store.Store) {
	t.Helper()
	check(t, s.Prepare(t.Context()))
}

// check ends the test if err is not nil.
func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// message returns a message that expires an hour from base.
func message(id push.MessageID) store.Record {
	return store.Record{
		Message: push.Message{
			ID: id, To: push.Recipients{All: true}, Data: json.RawMessage(`"data"`),
			CreatedAt: base, ExpiresAt: base.Add(time.Hour),
		},
		Fingerprint: "print of " + string(id),
	}
}

// insert stores a message for each id.
func insert(t *testing.T, s store.Store, ids ...push.MessageID) {
	t.Helper()
	var records []store.Record
	for _, id := range ids {
		records = append(records, message(id))
	}
	_, err := s.InsertMessages(t.Context(), records)
	check(t, err)
}

// entry returns an entry that expires with [message].
func entry(channel push.Channel, offset push.Offset, id push.MessageID) store.InboxEntry {
	return store.InboxEntry{Channel: channel, Offset: offset, Message: id, ExpiresAt: base.Add(time.Hour)}
}

// keyed returns e with a collapse key.
func keyed(e store.InboxEntry, key string) store.InboxEntry {
	e.CollapseKey = key
	return e
}

// write writes entries, all of which must find their offset free.
func write(t *testing.T, s store.Store, entries ...store.InboxEntry) {
	t.Helper()
	placements, err := s.WriteInbox(t.Context(), entries)
	check(t, err)
	var want []store.Placement
	for _, e := range entries {
		want = append(want, store.Placement{Offset: e.Offset})
	}
	if !slices.Equal(placements, want) {
		t.Fatalf("WriteInbox of\n%v\nplaced\n%v\nwant\n%v", entries, placements, want)
	}
}

// read returns the whole of a channel at base, page by page.
func read(t *testing.T, s store.Store, q store.InboxQuery) []push.Entry {
	t.Helper()
	if q.Now.IsZero() {
		q.Now = base
	}
	var all []push.Entry
	for {
		page, err := s.ReadInbox(t.Context(), q)
		check(t, err)
		all = append(all, page.Entries...)
		if !page.More {
			return all
		}
		if len(page.Entries) == 0 {
			t.Fatalf("ReadInbox(%+v) returned an empty page with More", q)
		}
		q.After = page.Entries[len(page.Entries)-1].Offset
	}
}

// offsets returns the offsets that reading channel at base returns.
func offsets(t *testing.T, s store.Store, channel push.Channel) []push.Offset {
	t.Helper()
	var list []push.Offset
	for _, e := range read(t, s, store.InboxQuery{Channel: channel}) {
		list = append(list, e.Offset)
	}
	return list
}

// wantOffsets fails the test unless exactly want is read from channel.
func wantOffsets(t *testing.T, s store.Store, channel push.Channel, want ...push.Offset) {
	t.Helper()
	if got := offsets(t, s, channel); !slices.Equal(got, want) {
		t.Errorf("channel %q holds offsets %v, want %v", channel, got, want)
	}
}

// together runs n functions at once and waits for them.
func together(n int, run func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			run(i)
		})
	}
	close(start)
	all.Wait()
}

// over returns a context that has ended.
func over(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
