package mongostore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// parkedKey is what parked entries are ordered by, in one field and so by one
// index: the milliseconds, in as many digits as there ever are, and the id.
func parkedKey(at time.Time, id push.MessageID) string {
	return fmt.Sprintf("%015d*%s", max(0, at.UnixMilli()), id)
}

// parkedAt is the time that is part of a key.
func parkedAt(key string) time.Time {
	digits, _, _ := strings.Cut(key, "*")
	ms, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// ParkOutbox takes entries out of the queue; see [store.Parking].
func (s *Store) ParkOutbox(ctx context.Context, entries []store.ParkedEntry) error {
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return fmt.Errorf("park: %w", err)
	}
	defer cancel()
	var updates []mongo.WriteModel
	for _, e := range entries {
		updates = append(updates, mongo.NewUpdateOneModel().SetFilter(waiting(e.Message)).SetUpdate(bson.D{
			{Key: "$set", Value: bson.D{
				{Key: "attempts", Value: e.Attempts}, {Key: "reason", Value: e.Reason},
				{Key: "parked", Value: parkedKey(e.At, e.Message)}, {Key: "until", Value: date(e.Until)},
			}},
			{Key: "$unset", Value: bson.D{{Key: "due", Value: ""}, {Key: "seq", Value: ""}}},
		}))
	}
	if err := s.update(ctx, s.outbox, updates); err != nil {
		return fmt.Errorf("park: %w", classify(err))
	}
	return nil
}

// ListParked returns what is parked; see [store.Parking].
func (s *Store) ListParked(ctx context.Context, q store.ParkedQuery) ([]store.ParkedEntry, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("list what is parked: %w", err)
	}
	defer cancel()
	if q.Limit <= 0 {
		q.Limit = store.DefaultParked
	}
	found, err := findAll[outboxDoc](ctx, s.outbox, parkedBehind(q), options.Find().SetSort(ascending("parked")).SetLimit(int64(q.Limit)))
	if err != nil {
		return nil, fmt.Errorf("list what is parked: %w", err)
	}
	entries := make([]store.ParkedEntry, len(found))
	for i, d := range found {
		entries[i] = store.ParkedEntry{
			Message: push.MessageID(d.ID), Attempts: d.Attempts, Reason: d.Reason, At: parkedAt(d.Parked), Until: moment(d.Until),
		}
	}
	return entries, nil
}

// ReplayParked has a parked entry wait again; see [store.Parking].
func (s *Store) ReplayParked(ctx context.Context, id push.MessageID, due time.Time) (bool, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return false, fmt.Errorf("replay parked message %s: %w", id, err)
	}
	defer cancel()
	found, err := findAll[outboxDoc](ctx, s.outbox, isParked(id), options.Find().SetLimit(1))
	if err != nil {
		return false, fmt.Errorf("replay parked message %s: %w", id, err)
	}
	if len(found) == 0 {
		return false, nil
	}
	set := bson.D{{Key: "due", Value: max(date(due), 1)}, {Key: "attempts", Value: 1}, {Key: "claimed", Value: bson.DateTime(0)}}
	if len(found[0].Channels) > 0 {
		sequence, err := s.sequences(ctx, 1)
		if err != nil {
			return false, fmt.Errorf("replay parked message %s: %w", id, err)
		}
		set = append(set, bson.E{Key: "seq", Value: sequence})
	}
	return s.unpark(ctx, "replay", id, bson.D{
		{Key: "$set", Value: set},
		{Key: "$unset", Value: bson.D{{Key: "parked", Value: ""}, {Key: "until", Value: ""}}},
	})
}

// DiscardParked cancels a parked entry; see [store.Parking].
func (s *Store) DiscardParked(ctx context.Context, id push.MessageID, at time.Time) (bool, error) {
	return s.unpark(ctx, "discard", id, bson.D{
		{Key: "$set", Value: bson.D{{Key: "cancelled", Value: date(at)}}},
		{Key: "$unset", Value: bson.D{{Key: "parked", Value: ""}}},
	})
}

// unpark changes the parked entry of id and reports whether there was one.
func (s *Store) unpark(ctx context.Context, what string, id push.MessageID, change bson.D) (bool, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return false, fmt.Errorf("%s parked message %s: %w", what, id, err)
	}
	defer cancel()
	done, err := s.outbox.UpdateOne(ctx, isParked(id), change)
	if err != nil {
		return false, fmt.Errorf("%s parked message %s: %w", what, id, classify(err))
	}
	return done.MatchedCount == 1, nil
}
