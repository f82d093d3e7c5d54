package mongostore

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

func (d *cursorDoc) cursor() store.Cursor {
	return store.Cursor{
		User: push.UserID(d.User), Device: push.Device(d.Device), Channel: push.Channel(d.Channel),
		Received: push.Offset(d.Received), Acknowledged: push.Offset(d.Acknowledged),
		UpdatedAt: moment(d.Updated), Start: push.Offset(d.Start),
	}
}

// byDevice is the order of cursors within a user, and byUser within a channel.
var (
	byDevice = bson.D{{Key: "device", Value: 1}, {Key: "channel", Value: 1}}
	byUser   = bson.D{{Key: "user", Value: 1}, {Key: "device", Value: 1}}
)

// LoadUserCursors returns the cursors of all devices; see [store.Cursors].
func (s *Store) LoadUserCursors(ctx context.Context, user push.UserID, limit int) ([]store.Cursor, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("load all cursors of user %s: %w", user, err)
	}
	defer cancel()
	if limit <= 0 {
		return nil, nil // MongoDB takes 0 for no limit
	}
	found, err := findAll[cursorDoc](ctx, s.cursors, in("user", []string{string(user)}), options.Find().SetSort(byDevice).SetLimit(int64(limit)))
	if err != nil {
		return nil, fmt.Errorf("load all cursors of user %s: %w", user, err)
	}
	cursors := make([]store.Cursor, len(found))
	for i := range found {
		cursors[i] = found[i].cursor()
	}
	return cursors, nil
}

// ListDevices returns how far devices are; see [store.Cursors].
func (s *Store) ListDevices(ctx context.Context, q store.DevicesQuery) ([]store.DeviceState, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the devices of %s: %w", q.Channel, err)
	}
	defer cancel()
	if q.Limit <= 0 {
		q.Limit = store.DefaultDevices
	}
	devices, err := s.listDevices(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("list the devices of %s: %w", q.Channel, err)
	}
	return devices, nil
}

// listDevices reads what is left of the user where the last page ended, then
// the users behind. Both are runs of one index.
func (s *Store) listDevices(ctx context.Context, q store.DevicesQuery) ([]store.DeviceState, error) {
	var found []cursorDoc
	var err error
	if q.AfterUser != "" {
		found, err = findAll[cursorDoc](ctx, s.cursors, devicesOf(q, q.AfterUser, q.AfterDevice),
			options.Find().SetSort(byUser).SetLimit(int64(q.Limit)))
		if err != nil {
			return nil, err
		}
	}
	if left := q.Limit - len(found); left > 0 {
		behind, err := findAll[cursorDoc](ctx, s.cursors, usersBehind(q, q.AfterUser),
			options.Find().SetSort(byUser).SetLimit(int64(left)))
		if err != nil {
			return nil, err
		}
		found = append(found, behind...)
	}
	if len(found) == 0 {
		return nil, nil
	}
	devices := make([]store.DeviceState, len(found))
	for i := range found {
		devices[i].Cursor = found[i].cursor()
	}
	return devices, s.markSpared(ctx, q, devices)
}

// markSpared sets Spared of devices, which are in their order.
func (s *Store) markSpared(ctx context.Context, q store.DevicesQuery, devices []store.DeviceState) error {
	runs, err := findAll[sparedDoc](ctx, s.spared, sparedAt(q, devices[0].User, devices[len(devices)-1].User),
		options.Find().SetProjection(only("user", "device")))
	if err != nil {
		return err
	}
	type owner struct{ user, device string }
	spared := make(map[owner]bool, len(runs))
	for _, r := range runs {
		spared[owner{r.User, r.Device}] = true
	}
	for i := range devices {
		devices[i].Spared = spared[owner{string(devices[i].User), string(devices[i].Device)}]
	}
	return nil
}

// A sparedDoc is a [store.Spared] in the collection spared.
type sparedDoc struct {
	ID      string        `bson:"_id"`
	Channel string        `bson:"channel"`
	User    string        `bson:"user"`
	Device  string        `bson:"device"`
	First   int64         `bson:"first"`
	Last    int64         `bson:"last"`
	Expires bson.DateTime `bson:"expires"`
}

// Spare notes what devices were not given; see [store.Cursors].
func (s *Store) Spare(ctx context.Context, spared []store.Spared) error {
	if len(spared) == 0 {
		return nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return fmt.Errorf("note what devices were spared: %w", err)
	}
	defer cancel()
	documents := make([]sparedDoc, len(spared))
	for i, e := range spared {
		first, last := stored(e.First), stored(e.Last)
		documents[i] = sparedDoc{
			ID:      fmt.Sprintf("%s*%d-%d", cursorID(e.User, e.Device, e.Channel), first, last),
			Channel: string(e.Channel), User: string(e.User), Device: string(e.Device),
			First: first, Last: last, Expires: date(e.ExpiresAt),
		}
	}
	there, err := insert(ctx, s.spared, documents)
	if err != nil {
		return fmt.Errorf("note what devices were spared: %w", err)
	}
	var updates []mongo.WriteModel
	for _, i := range there { // the same run again, which may end later than the first time
		updates = append(updates, mongo.NewUpdateOneModel().
			SetFilter(bson.D{{Key: "_id", Value: documents[i].ID}}).
			SetUpdate(bson.D{{Key: "$max", Value: bson.D{{Key: "expires", Value: documents[i].Expires}}}}))
	}
	if err := s.update(ctx, s.spared, updates); err != nil {
		return fmt.Errorf("note what devices were spared: %w", classify(err))
	}
	return nil
}
