package mongostore

import (
	"errors"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

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
	behind := s.db.Collection("behind")
	s.kept = behind
	if placed, err := s.PlacedAt(t.Context(), "m", []push.Channel{"c", "d"}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("of an entry that no majority has, PlacedAt = %v, %v, want %v", placed, err, store.ErrUnavailable)
	}
	if _, err := behind.InsertOne(t.Context(), bson.M{"_id": entryID("c", "m"), "channel": "c", "offset": 6}); err != nil {
		t.Fatal(err)
	}
	if placed, err := s.PlacedAt(t.Context(), "m", []push.Channel{"c", "d"}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("of an entry that a majority has elsewhere, PlacedAt = %v, %v, want %v", placed, err, store.ErrUnavailable)
	}
	if placed, err := s.PlacedAt(t.Context(), "other", []push.Channel{"c", "d"}); err != nil || len(placed) != 0 {
		t.Errorf("of a message that is nowhere, PlacedAt = %v, %v, want nothing", placed, err)
	}
}
