package sqlitestore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// LoadCursors returns devices' cursors; see [store.Cursors].
func (s *Store) LoadCursors(ctx context.Context, devices []store.UserDevice) ([]store.Cursor, error) {
	if len(devices) == 0 {
		return nil, nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	pairs := make([][2]string, 0, len(devices))
	seen := make(map[store.UserDevice]bool, len(devices))
	for _, d := range devices {
		if !seen[d] {
			seen[d] = true
			pairs = append(pairs, [2]string{string(d.User), string(d.Device)})
		}
	}
	list, err := json.Marshal(pairs)
	if err != nil {
		return nil, fmt.Errorf("load cursors of %d devices: %w", len(devices), err)
	}
	var cursors []store.Cursor
	const text = `SELECT user, device, channel, received, acknowledged, updated, start
		FROM json_each(?) CROSS JOIN cursors ON user = value ->> 0 AND device = value ->> 1`
	err = s.query(ctx, text, []any{string(list)}, func(scan func(...any) error) (bool, error) {
		var received, acknowledged, updated, start int64
		var c store.Cursor
		if err := scan(&c.User, &c.Device, &c.Channel, &received, &acknowledged, &updated, &start); err != nil {
			return false, err
		}
		setPositions(&c, received, acknowledged, updated, start)
		cursors = append(cursors, c)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("load cursors of %d devices: %w", len(devices), err)
	}
	return cursors, nil
}

// AdvanceCursors raises cursors; see [store.Cursors].
func (s *Store) AdvanceCursors(ctx context.Context, cursors []store.Cursor) (store.Crowded, error) {
	if len(cursors) == 0 {
		return store.Crowded{}, nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	cursors = slices.Clone(cursors)
	var crowded store.Crowded
	err := s.writer.do(ctx, len(cursors), func(t *tx) (err error) {
		crowded, err = advanceCursors(t, cursors)
		return err
	})
	if err != nil {
		return store.Crowded{}, fmt.Errorf("advance cursors: %w", err)
	}
	return crowded, nil
}

// advanceCursors raises those of cursors that are there and creates the others,
// as far as their users have room for them.
func advanceCursors(t *tx, cursors []store.Cursor) (crowded store.Crowded, err error) {
	var users []push.UserID // with cursors that are missing
	missing := make(map[push.UserID][]store.Cursor)
	for _, c := range cursors {
		n, err := t.exec(`UPDATE cursors SET received = max(received, ?4), acknowledged = max(acknowledged, ?5), updated = max(updated, ?6)
			WHERE user = ?1 AND device = ?2 AND channel = ?3`,
			string(c.User), string(c.Device), string(c.Channel), stored(c.Received), stored(c.Acknowledged), millis(c.UpdatedAt))
		if err != nil {
			return crowded, fmt.Errorf("user %s, channel %s: %w", c.User, c.Channel, err)
		}
		if n > 0 {
			continue
		}
		if missing[c.User] == nil {
			users = append(users, c.User)
		}
		missing[c.User] = append(missing[c.User], c)
	}
	for _, user := range users {
		more, err := createCursors(t, user, missing[user])
		crowded.Add(more)
		if err != nil {
			return crowded, fmt.Errorf("user %s: %w", user, err)
		}
	}
	return crowded, nil
}

// mostLooked bounds the devices of a user that one call looks at. A user has more
// only where the file is older than the bound; later calls come to the others.
const mostLooked = 10 * store.MaxDevices

// createCursors creates cursors of user, one of which may come twice, unless
// there is no room for their device.
func createCursors(t *tx, user push.UserID, cursors []store.Cursor) (crowded store.Crowded, err error) {
	var known []store.KnownDevice
	place := make(map[push.Device]int) // in known
	err = t.rows(`SELECT device, max(updated) FROM cursors WHERE user = ? GROUP BY device LIMIT ? + 0`, []any{string(user), mostLooked},
		func(scan func(...any) error) error {
			var d store.KnownDevice
			var updated int64
			err := scan(&d.Device, &updated)
			d.UpdatedAt = moment(updated)
			place[d.Device], known = len(known), append(known, d)
			return err
		})
	if err != nil {
		return crowded, err
	}
	var fresh []push.Device
	var now time.Time
	for _, c := range cursors {
		if c.UpdatedAt.After(now) {
			now = c.UpdatedAt
		}
	}
	for _, c := range cursors {
		if i, ok := place[c.Device]; ok {
			known[i].UpdatedAt = now
		} else if !slices.Contains(fresh, c.Device) {
			fresh = append(fresh, c.Device)
		}
	}
	var forgotten, unkept []push.Device
	if len(fresh) > 0 {
		forgotten, unkept = store.Room(known, fresh, now)
	}
	for _, device := range forgotten {
		if _, err := t.exec(`DELETE FROM cursors WHERE user = ? AND device = ?`, string(user), string(device)); err != nil {
			return crowded, err
		}
	}
	for _, c := range cursors {
		if slices.Contains(unkept, c.Device) {
			continue
		}
		_, err := t.exec(`INSERT INTO cursors (user, device, channel, received, acknowledged, updated, start)
			VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (user, device, channel) DO UPDATE SET
			received     = max(received, excluded.received),
			acknowledged = max(acknowledged, excluded.acknowledged),
			updated      = max(updated, excluded.updated)`,
			string(c.User), string(c.Device), string(c.Channel), stored(c.Received), stored(c.Acknowledged), millis(c.UpdatedAt), stored(c.Start))
		if err != nil {
			return crowded, err
		}
	}
	return store.Crowded{Forgotten: len(forgotten), Unkept: len(unkept)}, nil
}

// RemoveCursors forgets cursors of one device; see [store.Cursors].
func (s *Store) RemoveCursors(ctx context.Context, user push.UserID, device push.Device, channels []push.Channel) error {
	if len(channels) == 0 {
		return nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	list, err := json.Marshal(channels)
	if err != nil {
		return fmt.Errorf("remove cursors of user %s: %w", user, err)
	}
	err = s.writer.do(ctx, len(channels), func(t *tx) error {
		_, err := t.exec(`DELETE FROM cursors WHERE user = ? AND device = ? AND channel IN (SELECT value FROM json_each(?))`,
			string(user), string(device), string(list))
		return err
	})
	if err != nil {
		return fmt.Errorf("remove cursors of user %s: %w", user, err)
	}
	return nil
}
