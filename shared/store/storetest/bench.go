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

// BenchmarkWriteInbox places messages in n channels at once each, as Dispatch
// does. s must be prepared.
func BenchmarkWriteInbox(b *testing.B, s store.Store, n int) {
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

// BenchmarkLastOffsets asks for the last offsets of n channels at once, of which
// half have 3 entries and half have none. s must be prepared.
func BenchmarkLastOffsets(b *testing.B, s store.Store, n int) {
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

// BenchmarkLoadCursors asks for the cursors of n devices at once, 3 of each. s
// must be prepared.
func BenchmarkLoadCursors(b *testing.B, s store.Store, n int) {
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
