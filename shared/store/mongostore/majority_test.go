package mongostore

import (
	"errors"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
	"pushcluster/shared/store/storetest"
)

// TestPlacedAtAsksTheMajority: a place that a failover may take back is none that a
// message could be confirmed by. A collection that lacks the entry stands for what
// a majority has, because one server has all or nothing.
func TestPlacedAtAsksTheMajority(t *testing.T) {
	s, err := Open(storetest.FerretDB(t), Config{Timeout: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	entry := store.InboxEntry{Channel: "c", Offset: 7, Message: "m", ExpiresAt: time.Now().Add(time.Hour)}
	if _, err := s.WriteInbox(t.Context(), []store.InboxEntry{entry}); err != nil {
		t.Fatal(err)
	}
	if placed, err := s.PlacedAt(t.Context(), "m", []push.Channel{"c", "d"}); err != nil || placed["c"] != 7 || len(placed) != 1 {
		t.Errorf("PlacedAt = %v, %v, want c at 7", placed, err)
	}
	s.kept = s.db.Collection("behind")
	if placed, err := s.PlacedAt(t.Context(), "m", []push.Channel{"c", "d"}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("of an entry that no majority has, PlacedAt = %v, %v, want %v", placed, err, store.ErrUnavailable)
	}
	if placed, err := s.PlacedAt(t.Context(), "other", []push.Channel{"c", "d"}); err != nil || len(placed) != 0 {
		t.Errorf("of a message that is nowhere, PlacedAt = %v, %v, want nothing", placed, err)
	}
}
