package mongostore

import (
	"context"
	"maps"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// mostLooked bounds the cursors that one query for room returns. Of a user who has
// more, from a time before there was a bound, say, the first count alone: those
// behind are come to when others are gone.
const mostLooked = 20_000

// byOwner is the order of cursors by user and then device.
var byOwner = bson.D{{Key: "user", Value: 1}, {Key: "device", Value: 1}, {Key: "channel", Value: 1}}

// makeRoom keeps users within the bound of devices, after written was advanced
// and those of made, by _id, were thereby created. That a device which returns at
// this moment is forgotten is no harm: it is as if it had come a moment later.
func (s *Store) makeRoom(ctx context.Context, written []cursorDoc, made map[string]bool) (store.Crowded, error) {
	now := make(map[string]time.Time) // by user
	for i := range written {
		if d := &written[i]; made[d.ID] && !moment(d.Updated).Before(now[d.User]) {
			now[d.User] = moment(d.Updated)
		}
	}
	var crowded store.Crowded
	users := slices.Sorted(maps.Keys(now))
	for len(users) > 0 {
		part := users[:min(len(users), maxIDs)]
		found, err := findAll[cursorDoc](ctx, s.cursors, in("user", part),
			options.Find().SetProjection(only("user", "device", "updated")).SetSort(byOwner).SetLimit(mostLooked))
		if err != nil {
			return crowded, err
		}
		users = users[len(part):]
		if len(found) == mostLooked { // not all of them: go on behind the last user there is
			last := found[len(found)-1].User
			i, _ := slices.BinarySearch(part, last)
			users = append(slices.Clone(part[i+1:]), users...)
		}
		for len(found) > 0 {
			user := found[0].User
			n := 1
			for n < len(found) && found[n].User == user {
				n++
			}
			cost, err := s.makeRoomOf(ctx, found[:n], made, now[user])
			crowded.Add(cost)
			if err != nil {
				return crowded, err
			}
			found = found[n:]
		}
	}
	return crowded, nil
}

// makeRoomOf keeps one user, who has cursors, by device, within the bound. A device
// is fresh if all its cursors were made now.
func (s *Store) makeRoomOf(ctx context.Context, cursors []cursorDoc, made map[string]bool, now time.Time) (store.Crowded, error) {
	user := cursors[0].User
	var known []store.KnownDevice
	var fresh []push.Device
	ids := make(map[push.Device][]string) // of cursors that were made now
	for len(cursors) > 0 {
		d := store.KnownDevice{Device: push.Device(cursors[0].Device)}
		n := 0
		for ; n < len(cursors) && cursors[n].Device == string(d.Device); n++ {
			if at := moment(cursors[n].Updated); at.After(d.UpdatedAt) {
				d.UpdatedAt = at
			}
			if made[cursors[n].ID] {
				ids[d.Device] = append(ids[d.Device], cursors[n].ID)
			}
		}
		if len(ids[d.Device]) == n {
			fresh = append(fresh, d.Device)
		} else {
			known = append(known, d)
		}
		cursors = cursors[n:]
	}
	if len(fresh) == 0 {
		return store.Crowded{}, nil
	}
	forgotten, unkept := store.Room(known, fresh, now)
	if len(forgotten) > 0 {
		if _, err := s.cursors.DeleteMany(ctx, quietDevices(user, forgotten, now.Add(-store.DeviceQuiet))); err != nil {
			return store.Crowded{}, classify(err)
		}
	}
	var gone []string
	for _, device := range unkept {
		gone = append(gone, ids[device]...)
	}
	if err := remove(ctx, s.cursors, gone); err != nil {
		return store.Crowded{Forgotten: len(forgotten)}, err
	}
	return store.Crowded{Forgotten: len(forgotten), Unkept: len(unkept)}, nil
}
