package mongostore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// QuietDevices returns devices that may be forgotten; see [store.Cursors].
func (s *Store) QuietDevices(ctx context.Context, user push.UserID, after push.Device, quiet time.Time) ([]push.Device, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for quiet devices of user %s: %w", user, err)
	}
	defer cancel()
	var seen []store.SeenDevice
	for _, side := range []string{"$gt", "$lte"} {
		left := store.MaxSeen - len(seen)
		if left == 0 {
			break // MongoDB takes 0 for no limit
		}
		found, err := findAll[cursorDoc](ctx, s.cursors, personalCursors(user, side, after),
			options.Find().SetSort(byUser).SetLimit(int64(left)).SetProjection(only("device", "updated")))
		if err != nil {
			return nil, fmt.Errorf("look for quiet devices of user %s: %w", user, err)
		}
		for i := range found {
			seen = append(seen, store.SeenDevice{Device: push.Device(found[i].Device), At: moment(found[i].Updated)})
		}
	}
	return store.Quiet(seen, quiet), nil
}

// ForgetDevices forgets devices; see [store.Cursors]. The removal of its personal
// cursor decides on each.
func (s *Store) ForgetDevices(ctx context.Context, user push.UserID, devices []push.Device, quiet time.Time) error {
	if len(devices) == 0 {
		return nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return fmt.Errorf("forget devices of user %s: %w", user, err)
	}
	defer cancel()
	if err := s.forgetDevices(ctx, user, devices, quiet); err != nil {
		return fmt.Errorf("forget devices of user %s: %w", user, classify(err))
	}
	return nil
}

func (s *Store) forgetDevices(ctx context.Context, user push.UserID, devices []push.Device, quiet time.Time) error {
	ids := make([]string, len(devices))
	for i, device := range devices {
		ids[i] = cursorID(user, device, push.Personal(user))
	}
	if _, err := s.cursors.DeleteMany(ctx, append(in("_id", ids), until("updated", quiet)...)); err != nil {
		return err
	}
	kept, err := findAll[cursorDoc](ctx, s.cursors, in("_id", ids), options.Find().SetProjection(only("device")))
	if err != nil {
		return err
	}
	forgotten := slices.DeleteFunc(slices.Clone(devices), func(device push.Device) bool {
		return slices.ContainsFunc(kept, func(d cursorDoc) bool { return d.Device == string(device) })
	})
	if len(forgotten) == 0 {
		return nil
	}
	// A device that comes back at this moment is new, and its cursors are of now.
	_, err = s.cursors.DeleteMany(ctx, cursorsBefore(user, forgotten, store.ForgottenBefore(quiet)))
	return err
}

// personalCursors matches the cursors in a user's personal channel of the devices
// on one side of a name.
func personalCursors(user push.UserID, side string, name push.Device) bson.D {
	return bson.D{
		{Key: "channel", Value: string(push.Personal(user))}, {Key: "user", Value: string(user)},
		{Key: "device", Value: bson.D{{Key: side, Value: string(name)}}},
	}
}

// cursorsBefore matches the cursors of a user's devices that were updated before t.
func cursorsBefore(user push.UserID, devices []push.Device, t time.Time) bson.D {
	names := make([]string, len(devices))
	for i, device := range devices {
		names[i] = string(device)
	}
	return append(append(in("user", []string{string(user)}), in("device", names)...),
		bson.E{Key: "updated", Value: bson.D{{Key: "$lt", Value: date(t)}}})
}
