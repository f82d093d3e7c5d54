package mongostore

import (
	"context"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A cursorDoc is a [store.Cursor] in the collection cursors.
type cursorDoc struct {
	ID           string        `bson:"_id"`
	User         string        `bson:"user"`
	Device       string        `bson:"device"`
	Channel      string        `bson:"channel"`
	Received     int64         `bson:"received"`
	Acknowledged int64         `bson:"acknowledged"`
	Updated      bson.DateTime `bson:"updated"`
	Start        int64         `bson:"start,omitempty"`
}

func cursorID(user push.UserID, device push.Device, channel push.Channel) string {
	return string(user) + "*" + string(device) + "*" + string(channel)
}

// LoadCursors returns devices' cursors; see [store.Cursors].
func (s *Store) LoadCursors(ctx context.Context, devices []store.UserDevice) ([]store.Cursor, error) {
	if len(devices) == 0 {
		return nil, nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("load cursors of %d devices: %w", len(devices), err)
	}
	defer cancel()
	var cursors []store.Cursor
	seen := make(map[store.UserDevice]bool, len(devices))
	for part := range slices.Chunk(devices, maxIDs) {
		asked := make(map[store.UserDevice]bool, len(part))
		for _, d := range part {
			if !seen[d] {
				asked[d], seen[d] = true, true
			}
		}
		found, err := findAll[cursorDoc](ctx, s.cursors, ofDevices(part), options.Find())
		if err != nil {
			return nil, fmt.Errorf("load cursors of %d devices: %w", len(devices), err)
		}
		for i := range found {
			if c := found[i].cursor(); asked[store.UserDevice{User: c.User, Device: c.Device}] {
				cursors = append(cursors, c)
			}
		}
	}
	return cursors, nil
}

// AdvanceCursors raises cursors; see [store.Cursors].
func (s *Store) AdvanceCursors(ctx context.Context, cursors []store.Cursor) error {
	if len(cursors) == 0 {
		return nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return fmt.Errorf("advance cursors: %w", err)
	}
	defer cancel()
	if _, err := share(ctx, s.advancing, cursors); err != nil {
		return fmt.Errorf("advance cursors: %w", err)
	}
	return nil
}

// upsertTries is how often advanceCursors runs its updates while another
// process makes the same cursors.
const upsertTries = 5

// advanceCursors is AdvanceCursors for the cursors of several calls.
func (s *Store) advanceCursors(ctx context.Context, cursors []store.Cursor) ([]struct{}, error) {
	var merged []cursorDoc
	place := make(map[string]int, len(cursors))
	for _, c := range cursors {
		d := cursorDoc{
			ID: cursorID(c.User, c.Device, c.Channel), User: string(c.User), Device: string(c.Device), Channel: string(c.Channel),
			Received: stored(c.Received), Acknowledged: stored(c.Acknowledged), Updated: date(c.UpdatedAt),
			Start: stored(c.Start),
		}
		i, twice := place[d.ID]
		if !twice {
			place[d.ID] = len(merged)
			merged = append(merged, d)
			continue
		}
		m := &merged[i]
		m.Received, m.Acknowledged, m.Updated = max(m.Received, d.Received), max(m.Acknowledged, d.Acknowledged), max(m.Updated, d.Updated)
	}
	var updates []mongo.WriteModel
	for i := range merged {
		d := &merged[i]
		made := bson.D{{Key: "user", Value: d.User}, {Key: "device", Value: d.Device}, {Key: "channel", Value: d.Channel}}
		if d.Start != 0 {
			made = append(made, bson.E{Key: "start", Value: d.Start})
		}
		updates = append(updates, mongo.NewUpdateOneModel().
			SetFilter(bson.D{{Key: "_id", Value: d.ID}}).
			SetUpdate(bson.D{
				{Key: "$max", Value: bson.D{{Key: "received", Value: d.Received}, {Key: "acknowledged", Value: d.Acknowledged}, {Key: "updated", Value: d.Updated}}},
				{Key: "$setOnInsert", Value: made},
			}).SetUpsert(true))
	}
	var err error
	for range upsertTries { // two upserts of one new document: the later one fails, and finds it the next time
		if err = s.update(ctx, s.cursors, updates); !mongo.IsDuplicateKeyError(err) {
			break
		}
	}
	return make([]struct{}, len(cursors)), classify(err)
}

// TouchCursors raises when cursors were updated; see [store.Cursors].
func (s *Store) TouchCursors(ctx context.Context, cursors []store.Cursor) error {
	if len(cursors) == 0 {
		return nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return fmt.Errorf("touch cursors: %w", err)
	}
	defer cancel()
	if _, err := share(ctx, s.touching, cursors); err != nil {
		return fmt.Errorf("touch cursors: %w", err)
	}
	return nil
}

// touchCursors is TouchCursors for the cursors of several calls.
func (s *Store) touchCursors(ctx context.Context, cursors []store.Cursor) ([]struct{}, error) {
	updates := make([]mongo.WriteModel, len(cursors))
	for i, c := range cursors {
		updates[i] = mongo.NewUpdateOneModel().
			SetFilter(bson.D{{Key: "_id", Value: cursorID(c.User, c.Device, c.Channel)}}).
			SetUpdate(bson.D{{Key: "$max", Value: bson.D{{Key: "updated", Value: date(c.UpdatedAt)}}}})
	}
	return make([]struct{}, len(cursors)), classify(s.update(ctx, s.cursors, updates))
}

// RemoveCursors forgets cursors of one device; see [store.Cursors].
func (s *Store) RemoveCursors(ctx context.Context, user push.UserID, device push.Device, channels []push.Channel) error {
	if len(channels) == 0 {
		return nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return fmt.Errorf("remove cursors of user %s: %w", user, err)
	}
	defer cancel()
	ids := make([]string, len(channels))
	for i, channel := range channels {
		ids[i] = cursorID(user, device, channel)
	}
	if err := remove(ctx, s.cursors, ids); err != nil {
		return fmt.Errorf("remove cursors of user %s: %w", user, err)
	}
	return nil
}
