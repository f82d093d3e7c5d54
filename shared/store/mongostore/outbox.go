package mongostore

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// An outboxDoc is a [store.OutboxRecord] in the collection outbox. Each change
// of its state is one update of this one document, so of two that contradict
// each other one finds nothing to change.
type outboxDoc struct {
	ID       string        `bson:"_id"`
	Due      bson.DateTime `bson:"due,omitempty"` // only what waits is due
	Attempts int           `bson:"attempts"`
	Reason   string        `bson:"reason,omitempty"`
	Claimed  bson.DateTime `bson:"claimed"` // until then; 0: not claimed
	Claim    string        `bson:"claim,omitempty"`
	Channels []string      `bson:"channels,omitempty"` // of an ordered entry
	Sequence int64         `bson:"seq,omitempty"`      // of an ordered entry that waits

	Parked    string        `bson:"parked,omitempty"` // see parkedKey
	Cancelled bson.DateTime `bson:"cancelled,omitempty"`
	Until     bson.DateTime `bson:"until,omitempty"` // of what does not wait
}

func (d *outboxDoc) entry() store.OutboxEntry {
	e := store.OutboxEntry{
		Message: push.MessageID(d.ID), DueAt: moment(d.Due), Attempts: d.Attempts, Reason: d.Reason, Sequence: d.Sequence,
	}
	for _, c := range d.Channels {
		e.Channels = append(e.Channels, push.Channel(c))
	}
	return e
}

// PutOutbox writes entries; see [store.Outbox].
func (s *Store) PutOutbox(ctx context.Context, entries []store.OutboxEntry) error {
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return fmt.Errorf("put into outbox: %w", err)
	}
	defer cancel()
	ordered := 0
	for i := range entries {
		if len(entries[i].Channels) > 0 {
			ordered++
		}
	}
	sequence, err := s.sequences(ctx, ordered)
	if err != nil {
		return fmt.Errorf("put into outbox: %w", err)
	}
	documents := make([]outboxDoc, len(entries))
	for i, e := range entries {
		documents[i] = outboxDoc{ID: string(e.Message), Due: max(date(e.DueAt), 1), Attempts: e.Attempts, Reason: e.Reason}
		if len(e.Channels) > 0 {
			documents[i].Channels, documents[i].Sequence = texts(e.Channels), sequence
			sequence++
		}
	}
	if _, err := insert(ctx, s.outbox, documents); err != nil {
		return fmt.Errorf("put into outbox: %w", err)
	}
	return nil
}

// claimRounds is how often ClaimOutbox looks again after others took what it
// had found.
const claimRounds = 5

// ClaimOutbox claims due entries; see [store.Outbox].
func (s *Store) ClaimOutbox(ctx context.Context, now, until time.Time, limit int) ([]store.OutboxEntry, error) {
	if limit <= 0 {
		return nil, nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("claim from outbox: %w", err)
	}
	defer cancel()
	ordered, err := s.claim(ctx, claimableOrdered(now), ascending("seq"), until, limit)
	if err != nil {
		return nil, fmt.Errorf("claim from outbox: %w", err)
	}
	plain, err := s.claim(ctx, claimablePlain(now), ascending("due"), until, limit)
	if err != nil {
		if len(ordered) == 0 {
			return nil, fmt.Errorf("claim from outbox: %w", err)
		}
		plain = nil // they are claimed at the next look
	}
	slices.SortFunc(ordered, func(a, b store.OutboxEntry) int { return cmp.Compare(a.Sequence, b.Sequence) })
	slices.SortFunc(plain, func(a, b store.OutboxEntry) int {
		return cmp.Or(a.DueAt.Compare(b.DueAt), cmp.Compare(a.Message, b.Message))
	})
	return append(ordered, plain...), nil
}

// claim claims up to limit of the entries that free matches, in the given order,
// and returns them in no order.
func (s *Store) claim(ctx context.Context, free, order bson.D, until time.Time, limit int) ([]store.OutboxEntry, error) {
	var claimed []store.OutboxEntry
	for range claimRounds {
		got, lost, err := s.claimOnce(ctx, free, order, until, limit-len(claimed))
		if err != nil {
			return nil, err
		}
		claimed = append(claimed, got...)
		if lost == 0 || len(claimed) == limit {
			break
		}
	}
	return claimed, nil
}

// claimOnce finds entries, puts its mark on those that are still free, and
// reads which ones that were. It also tells how many it lost to others.
func (s *Store) claimOnce(ctx context.Context, free, order bson.D, until time.Time, limit int) (claimed []store.OutboxEntry, lost int, err error) {
	found, err := findAll[outboxDoc](ctx, s.outbox, free,
		options.Find().SetSort(order).SetLimit(int64(limit)).SetProjection(only("_id")))
	if err != nil || len(found) == 0 {
		return nil, 0, err
	}
	ids := make([]string, len(found))
	for i := range found {
		ids[i] = found[i].ID
	}
	mark := rand.Text()
	for part := range slices.Chunk(ids, maxIDs) {
		_, err := s.outbox.UpdateMany(ctx, append(in("_id", part), free...), bson.D{
			{Key: "$set", Value: bson.D{{Key: "claimed", Value: date(until)}, {Key: "claim", Value: mark}}},
		})
		if err != nil {
			return nil, 0, classify(err)
		}
	}
	marked, err := findIn[outboxDoc](ctx, s.outbox, "_id", ids, options.Find())
	if err != nil {
		return nil, 0, err
	}
	for i := range marked {
		if marked[i].Claim == mark {
			claimed = append(claimed, marked[i].entry())
		}
	}
	return claimed, len(ids) - len(claimed), nil
}

// ConfirmOutbox removes entries; see [store.Outbox].
func (s *Store) ConfirmOutbox(ctx context.Context, ids []push.MessageID) error {
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return fmt.Errorf("confirm outbox: %w", err)
	}
	defer cancel()
	if err := remove(ctx, s.outbox, texts(ids)); err != nil {
		return fmt.Errorf("confirm outbox: %w", err)
	}
	return nil
}

// RetryOutbox gives entries another due time; see [store.Outbox].
func (s *Store) RetryOutbox(ctx context.Context, entries []store.OutboxEntry) error {
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return fmt.Errorf("retry outbox: %w", err)
	}
	defer cancel()
	var updates []mongo.WriteModel
	for _, e := range entries {
		updates = append(updates, mongo.NewUpdateOneModel().
			SetFilter(waiting(e.Message)).
			SetUpdate(bson.D{{Key: "$set", Value: bson.D{
				{Key: "due", Value: max(date(e.DueAt), 1)}, {Key: "attempts", Value: e.Attempts},
				{Key: "reason", Value: e.Reason}, {Key: "claimed", Value: bson.DateTime(0)},
			}}}))
	}
	if err := s.update(ctx, s.outbox, updates); err != nil {
		return fmt.Errorf("retry outbox: %w", classify(err))
	}
	return nil
}

// CancelOutbox takes an entry back that nobody has tried; see [store.Outbox].
func (s *Store) CancelOutbox(ctx context.Context, id push.MessageID, at, until time.Time) (bool, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return false, fmt.Errorf("cancel message %s: %w", id, err)
	}
	defer cancel()
	untried := append(waiting(id), bson.E{Key: "claimed", Value: bson.DateTime(0)}, bson.E{Key: "attempts", Value: 0})
	done, err := s.outbox.UpdateOne(ctx, untried, bson.D{
		{Key: "$set", Value: bson.D{{Key: "cancelled", Value: date(at)}, {Key: "until", Value: date(until)}}},
		{Key: "$unset", Value: bson.D{{Key: "due", Value: ""}, {Key: "seq", Value: ""}}},
	})
	if err != nil {
		return false, fmt.Errorf("cancel message %s: %w", id, classify(err))
	}
	if done.MatchedCount == 1 {
		return true, nil
	}
	found, err := findAll[outboxDoc](ctx, s.outbox, in("_id", []string{string(id)}), options.Find())
	if err != nil {
		return false, fmt.Errorf("cancel message %s: %w", id, err)
	}
	return len(found) == 1 && found[0].Cancelled != 0, nil
}

// LoadOutbox returns the entries of ids; see [store.Outbox].
func (s *Store) LoadOutbox(ctx context.Context, ids []push.MessageID) (map[push.MessageID]store.OutboxRecord, error) {
	records := make(map[push.MessageID]store.OutboxRecord, len(ids))
	if len(ids) == 0 {
		return records, nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("load from outbox: %w", err)
	}
	defer cancel()
	found, err := findIn[outboxDoc](ctx, s.outbox, "_id", texts(ids), options.Find())
	if err != nil {
		return nil, fmt.Errorf("load from outbox: %w", err)
	}
	for i := range found {
		d := &found[i]
		r := store.OutboxRecord{OutboxEntry: d.entry()}
		switch {
		case d.Cancelled != 0:
			r.State, r.ChangedAt = store.Cancelled, moment(d.Cancelled)
		case d.Parked != "":
			r.State, r.ChangedAt = store.Parked, parkedAt(d.Parked)
		}
		records[r.Message] = r
	}
	return records, nil
}
