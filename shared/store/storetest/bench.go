package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// BenchmarkInsertMessages stores messages one by one from many goroutines, as
// Collect does. s must be prepared.
func BenchmarkInsertMessages(b *testing.B, s store.Store) {
	var n atomic.Int64
	data := json.RawMessage(`"` + string(bytes.Repeat([]byte("x"), 200)) + `"`)
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := message(push.MessageID(fmt.Sprintf("key/%d-%d", b.N, n.Add(1))))
			r.Data = data
			if in, err := s.InsertMessages(b.Context(), []store.Record{r}); err != nil || in[0].Repeat {
				b.Errorf("insertion %+v, %v", in, err)
				return
			}
		}
	})
}

// bySize runs bench with each of sizes, every time on a store that prepared makes.
func bySize[S store.Store](b *testing.B, unit string, sizes []int, prepared func(*testing.B) S, bench func(b *testing.B, s store.Store, n int)) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("%s=%d", unit, n), func(b *testing.B) { bench(b, prepared(b), n) })
	}
}

// askedAtOnce are how many keys a question has: one that comes alone, some that
// gathered, and the most.
var askedAtOnce = []int{1, 16, 256}

// BenchmarkWriteInbox places messages in several channels at once each, as
// Dispatch does.
func BenchmarkWriteInbox[S store.Store](b *testing.B, prepared func(*testing.B) S) {
	bySize(b, "entries", []int{1, 100, 10_000}, prepared, writeInbox)
}

func writeInbox(b *testing.B, s store.Store, n int) {
	entries := make([]store.InboxEntry, n)
	for round := 0; b.Loop(); round++ {
		id := push.MessageID(fmt.Sprintf("key/%d", round))
		for i := range entries {
			entries[i] = entry(push.Personal(push.UserID(fmt.Sprintf("user%d", i))), push.Offset(round*n+i+1), id)
		}
		if _, err := s.WriteInbox(b.Context(), entries); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkReadInbox reads after the last entry of a channel, as a catch-up does.
func BenchmarkReadInbox(b *testing.B, s store.Store) {
	if _, err := s.WriteInbox(b.Context(), []store.InboxEntry{entry("#1", 1, "key/1")}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.ReadInbox(b.Context(), store.InboxQuery{Channel: "#1", After: 1, Now: base, TellOmitted: true}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLastOffsets asks for the last offsets of several channels at once, of
// which half have 3 entries and half have none.
func BenchmarkLastOffsets[S store.Store](b *testing.B, prepared func(*testing.B) S) {
	bySize(b, "channels", askedAtOnce, prepared, lastOffsets)
}

func lastOffsets(b *testing.B, s store.Store, n int) {
	channels := make([]push.Channel, n)
	var entries []store.InboxEntry
	for i := range channels {
		channels[i] = push.Personal(push.UserID(fmt.Sprintf("user%d", i)))
		for k := 1; i%2 == 0 && k <= 3; k++ {
			entries = append(entries, entry(channels[i], push.Offset(k), push.MessageID(fmt.Sprint("key/", k))))
		}
	}
	if _, err := s.WriteInbox(b.Context(), entries); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.LastOffsets(b.Context(), channels); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n)/float64(b.N), "µs/channel")
}

// BenchmarkLoadCursors asks for the cursors of several devices at once, 3 of each.
func BenchmarkLoadCursors[S store.Store](b *testing.B, prepared func(*testing.B) S) {
	bySize(b, "devices", askedAtOnce, prepared, loadCursors)
}

func loadCursors(b *testing.B, s store.Store, n int) {
	devices := make([]store.UserDevice, n)
	var cursors []store.Cursor
	for i := range devices {
		devices[i] = store.UserDevice{User: push.UserID(fmt.Sprintf("user%d", i)), Device: "phone"}
		for _, channel := range []push.Channel{push.Personal(devices[i].User), push.All, "news"} {
			cursors = append(cursors, store.Cursor{User: devices[i].User, Device: devices[i].Device, Channel: channel, Received: 7, UpdatedAt: base})
		}
	}
	if err := s.AdvanceCursors(b.Context(), cursors); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if list, err := s.LoadCursors(b.Context(), devices); err != nil || len(list) != len(cursors) {
			b.Fatalf("%d cursors, %v", len(list), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n)/float64(b.N), "µs/device")
}

// BenchmarkTermLasts asks for the term, as Dispatch does behind each write to inboxes.
func BenchmarkTermLasts(b *testing.B, s store.Store) {
	if _, err := s.SwapTerm(b.Context(), push.Term{}, push.Term{Number: 1, Marker: "m"}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if lasts, err := s.TermLasts(b.Context(), "m"); !lasts || err != nil {
			b.Fatal(lasts, err)
		}
	}
}
