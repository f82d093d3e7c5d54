package storetest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

var raceTests = []raceTest{
	{"at once/prepare", racePrepare},
	{"at once/insert one id", raceInsert},
	{"at once/write one message", raceWriteInbox},
	{"at once/write one offset", raceTaken},
	{"at once/collapse", raceCollapse},
	{"at once/claim", raceClaim},
	{"at once/claim callbacks", raceClaimCallbacks},
	{"at once/put in order", racePut},
	{"at once/cancel and claim", raceCancel},
	{"at once/replay and discard", raceUnpark},
	{"at once/advance one cursor", raceCursors},
	{"at once/forget devices that come back", raceForget},
	{"at once/swap the term", raceTerm},
	{"at once/first epoch", raceEpoch},
	{"at once/seen by all once answered", raceSeen},
}

const racers = 8

// each returns the store that racer i uses.
func each(stores []store.Store, i int) store.Store { return stores[i%len(stores)] }

func racePrepare(t *testing.T, stores []store.Store) {
	together(racers, func(i int) {
		if err := each(stores, i).Prepare(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// raceInsert has everybody insert the same ids under fingerprints of their own:
// one of them is first, and the others are told whose it is.
func raceInsert(t *testing.T, stores []store.Store) {
	const ids = 10
	var outcomes [racers][]store.Insertion
	together(racers, func(i int) {
		var records []store.Record
		for n := range ids {
			r := message(push.MessageID(fmt.Sprint("m", (n+i)%ids)))
			r.Fingerprint = fmt.Sprint("of ", i)
			records = append(records, r)
		}
		var err error
		if outcomes[i], err = each(stores, i).InsertMessages(t.Context(), records); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		return
	}
	for n := range ids {
		first, told := -1, ""
		for i := range racers {
			in := outcomes[i][(n-i%ids+ids)%ids]
			switch {
			case !in.Repeat && first >= 0:
				t.Errorf("m%d was new to both %d and %d", n, first, i)
			case !in.Repeat:
				first = i
			case told != "" && told != in.Fingerprint:
				t.Errorf("m%d is said to be both %q and %q", n, told, in.Fingerprint)
			default:
				told = in.Fingerprint
			}
		}
		if want := fmt.Sprint("of ", first); first < 0 || told != want {
			t.Errorf("m%d was new to %d, but the others were told it is %q", n, first, told)
		}
	}
}

// raceWriteInbox has everybody place the same message elsewhere: all are told
// the same place.
func raceWriteInbox(t *testing.T, stores []store.Store) {
	var outcomes [racers][]store.Placement
	channels := []push.Channel{"c", "d", "e"}
	together(racers, func(i int) {
		var entries []store.InboxEntry
		for _, channel := range channels {
			entries = append(entries, entry(channel, push.Offset(i+1), "m"))
		}
		var err error
		if outcomes[i], err = each(stores, i).WriteInbox(t.Context(), entries); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		return
	}
	placed, err := stores[0].PlacedAt(t.Context(), "m", channels)
	check(t, err)
	for i := range racers {
		for n, channel := range channels {
			if got, want := outcomes[i][n], (store.Placement{Offset: placed[channel]}); got != want {
				t.Errorf("racer %d was told %+v in channel %s, want %+v", i, got, channel, want)
			}
		}
	}
}

// raceTaken has everybody place another message at the same offset: one of
// them gets it.
func raceTaken(t *testing.T, stores []store.Store) {
	var got atomic.Int32
	together(racers, func(i int) {
		placements, err := each(stores, i).WriteInbox(t.Context(), []store.InboxEntry{entry("c", 1, push.MessageID(fmt.Sprint("m", i)))})
		switch {
		case err != nil:
			t.Error(err)
		case !placements[0].Taken:
			got.Add(1)
		}
	})
	if got.Load() != 1 {
		t.Errorf("%d messages got one offset, want 1", got.Load())
	}
}

// raceCollapse has everybody write entries of one key: the newest is left.
func raceCollapse(t *testing.T, stores []store.Store) {
	const rounds = 6
	for i := range racers * rounds {
		insert(t, stores[0], push.MessageID(fmt.Sprint("m", i+1)))
	}
	together(racers, func(i int) {
		for n := range rounds {
			offset := push.Offset(n*racers + i + 1)
			if i%2 == 1 {
				offset = push.Offset((rounds-1-n)*racers + i + 1) // half of them backwards
			}
			id := push.MessageID(fmt.Sprint("m", offset))
			_, err := each(stores, i).WriteInbox(t.Context(), []store.InboxEntry{keyed(entry("c", offset, id), "key")})
			if err != nil {
				t.Error(err)
			}
		}
	})
	for _, s := range stores {
		wantOffsets(t, s, "c", racers*rounds)
	}
}

// raceClaim has everybody claim until all is claimed: each entry goes to one.
func raceClaim(t *testing.T, stores []store.Store) {
	const n = 60
	var entries []store.OutboxEntry
	for i := range n {
		entries = append(entries, store.OutboxEntry{Message: push.MessageID(fmt.Sprint("m", i)), DueAt: base})
	}
	check(t, stores[0].PutOutbox(t.Context(), entries))
	var mu sync.Mutex
	taken := make(map[push.MessageID]int)
	deadline := time.Now().Add(2 * time.Minute)
	together(4, func(i int) {
		for time.Now().Before(deadline) {
			got, err := each(stores, i).ClaimOutbox(t.Context(), base, base.Add(time.Minute), 7)
			if err != nil {
				t.Error(err)
				return
			}
			if len(got) > 7 {
				t.Errorf("claimed %d, more than the limit of 7", len(got))
			}
			mu.Lock()
			for _, e := range got {
				taken[e.Message]++
			}
			all := len(taken) == n
			mu.Unlock()
			if all {
				return
			}
		}
	})
	if len(taken) != n {
		t.Errorf("%d of %d entries were claimed", len(taken), n)
	}
	for id, times := range taken {
		if times != 1 {
			t.Errorf("%s was claimed %d times", id, times)
		}
	}
}

// raceCancel has some claim and some cancel the same entries: each entry is
// either claimed by one of them or cancelled.
func raceCancel(t *testing.T, stores []store.Store) {
	const n = 24
	var entries []store.OutboxEntry
	for i := range n {
		entries = append(entries, store.OutboxEntry{Message: push.MessageID(fmt.Sprint("m", i)), DueAt: base})
	}
	check(t, stores[0].PutOutbox(t.Context(), entries))
	var mu sync.Mutex
	claimed, cancelled := make(map[push.MessageID]int), make(map[push.MessageID]bool)
	together(racers, func(i int) {
		s := each(stores, i/2) // both kinds on each store
		for round := range n {
			if i%2 == 0 {
				id := entries[(round+i*3)%n].Message
				done, err := s.CancelOutbox(t.Context(), id, base, base.Add(time.Hour))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				cancelled[id] = cancelled[id] || done
				mu.Unlock()
				continue
			}
			got, err := s.ClaimOutbox(t.Context(), base, base.Add(time.Minute), 1)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			for _, e := range got {
				claimed[e.Message]++
			}
			mu.Unlock()
		}
	})
	for _, e := range entries {
		once, never := claimed[e.Message] == 1 && !cancelled[e.Message], claimed[e.Message] == 0 && cancelled[e.Message]
		if !once && !never {
			t.Errorf("%s was claimed %d times and cancelled: %v", e.Message, claimed[e.Message], cancelled[e.Message])
		}
	}
}

// raceUnpark has everybody replay or discard one parked entry: one does.
func raceUnpark(t *testing.T, stores []store.Store) {
	check(t, stores[0].PutOutbox(t.Context(), []store.OutboxEntry{{Message: "m", DueAt: base}}))
	check(t, stores[0].ParkOutbox(t.Context(), []store.ParkedEntry{{Message: "m", At: base, Until: base.Add(time.Hour)}}))
	var done atomic.Int32
	together(racers, func(i int) {
		unpark := each(stores, i/2).ReplayParked
		if i%2 == 0 {
			unpark = each(stores, i/2).DiscardParked
		}
		ok, err := unpark(t.Context(), "m", base)
		if err != nil {
			t.Error(err)
		}
		if ok {
			done.Add(1)
		}
	})
	if done.Load() != 1 {
		t.Errorf("%d replayed or discarded one entry, want 1", done.Load())
	}
}

// raceCursors has everybody advance the same cursors: the largest of each
// position is left.
func raceCursors(t *testing.T, stores []store.Store) {
	const rounds = 10
	together(racers, func(i int) {
		for n := range rounds {
			at := push.Offset(n*racers + i + 1)
			var all []store.Cursor
			for _, channel := range []push.Channel{"c", "d"} {
				all = append(all, store.Cursor{
					User: "u", Device: "d", Channel: channel,
					Received: at, Acknowledged: racers*rounds - at, UpdatedAt: base.Add(time.Duration(at) * time.Millisecond),
				})
			}
			if err := each(stores, i).AdvanceCursors(t.Context(), all); err != nil {
				t.Error(err)
			}
		}
	})
	for _, s := range stores {
		for channel, c := range cursors(t, s, "u", "d") {
			want := store.Cursor{
				User: "u", Device: "d", Channel: channel, Received: racers * rounds, Acknowledged: racers*rounds - 1,
				UpdatedAt: base.Add(racers * rounds * time.Millisecond),
			}
			if c != want {
				t.Errorf("the cursor became %+v, want %+v", c, want)
			}
		}
	}
}

// raceTerm has everybody raise the ceiling by compare-and-set: no step is lost.
func raceTerm(t *testing.T, stores []store.Store) {
	const rounds = 5
	var swaps atomic.Int64
	together(racers, func(i int) {
		s := each(stores, i)
		for done := 0; done < rounds; {
			old, err := s.Term(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			next := old
			next.Number, next.Ceiling = 1, old.Ceiling+1
			next.Marker = fmt.Sprint("by ", i)
			swapped, err := s.SwapTerm(t.Context(), old, next)
			if err != nil {
				t.Error(err)
				return
			}
			if swapped {
				swaps.Add(1)
				done++
			}
		}
	})
	term, err := stores[0].Term(t.Context())
	check(t, err)
	if got := int64(term.Ceiling); got != racers*rounds || got != swaps.Load() {
		t.Errorf("the ceiling is %d after %d swaps, want %d", got, swaps.Load(), racers*rounds)
	}
}

func raceEpoch(t *testing.T, stores []store.Store) {
	var names [racers]string
	together(racers, func(i int) {
		var err error
		if names[i], err = each(stores, i).Epoch(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if all := slices.Compact(names[:]); len(all) != 1 || all[0] == "" {
		t.Errorf("the first calls named the epoch %q, want one name", all)
	}
}

// raceSeen has everybody read through another's store what was just written:
// an answered write is seen by whoever asks next.
func raceSeen(t *testing.T, stores []store.Store) {
	together(racers, func(i int) {
		writer, reader := each(stores, i), each(stores, i+1)
		for n := range 5 {
			id := push.MessageID(fmt.Sprintf("m%d-%d", i, n))
			channel := push.Channel(fmt.Sprint("c", i))
			if _, err := writer.InsertMessages(t.Context(), []store.Record{message(id)}); err != nil {
				t.Error(err)
			}
			if _, err := writer.WriteInbox(t.Context(), []store.InboxEntry{entry(channel, push.Offset(n+1), id)}); err != nil {
				t.Error(err)
			}
			page, err := reader.ReadInbox(t.Context(), store.InboxQuery{Channel: channel, After: push.Offset(n), Now: base})
			if err != nil || len(page.Entries) != 1 || page.Entries[0].Message.ID != id {
				t.Errorf("right after its write %s is not read: %+v, %v", id, page, err)
			}
		}
	})
}
