package sqlitestore

import (
	"context"
	"fmt"
	"slices"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// LoadUserCursors returns the cursors of all devices; see [store.Cursors].
func (s *Store) LoadUserCursors(ctx context.Context, user push.UserID, limit int) ([]store.Cursor, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	var cursors []store.Cursor
	const text = `SELECT device, channel, received, acknowledged, updated, start FROM cursors
		WHERE user = ? ORDER BY device, channel LIMIT ? + 0`
	err := s.query(ctx, text, []any{string(user), limit}, func(scan func(...any) error) (bool, error) {
		var received, acknowledged, updated, start int64
		c := store.Cursor{User: user}
		if err := scan(&c.Device, &c.Channel, &received, &acknowledged, &updated, &start); err != nil {
			return false, err
		}
		setPositions(&c, received, acknowledged, updated, start)
		cursors = append(cursors, c)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("load all cursors of user %s: %w", user, err)
	}
	return cursors, nil
}

// setPositions fills in what c's row says.
func setPositions(c *store.Cursor, received, acknowledged, updated, start int64) {
	c.Received, c.Acknowledged, c.Start = push.Offset(received), push.Offset(acknowledged), push.Offset(start)
	c.UpdatedAt = moment(updated)
}

// ListDevices returns how far devices are; see [store.Cursors].
func (s *Store) ListDevices(ctx context.Context, q store.DevicesQuery) ([]store.DeviceState, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	if q.Limit <= 0 {
		q.Limit = store.DefaultDevices
	}
	var devices []store.DeviceState
	const text = `SELECT c.user, c.device, c.received, c.acknowledged, c.updated, c.start,
			EXISTS (SELECT 1 FROM spared s WHERE s.channel = c.channel AND s.user = c.user AND s.device = c.device
				AND s.last >= ?2 AND s.first <= ?2)
		FROM cursors c WHERE c.channel = ?1 AND (c.user, c.device) > (?3, ?4) AND c.start < ?2
		ORDER BY c.user, c.device LIMIT ?5 + 0`
	args := []any{string(q.Channel), stored(q.Offset), string(q.AfterUser), string(q.AfterDevice), q.Limit}
	err := s.query(ctx, text, args, func(scan func(...any) error) (bool, error) {
		var received, acknowledged, updated, start int64
		d := store.DeviceState{Cursor: store.Cursor{Channel: q.Channel}}
		if err := scan(&d.User, &d.Device, &received, &acknowledged, &updated, &start, &d.Spared); err != nil {
			return false, err
		}
		setPositions(&d.Cursor, received, acknowledged, updated, start)
		devices = append(devices, d)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the devices of %s: %w", q.Channel, err)
	}
	return devices, nil
}

// Spare notes what devices were not given; see [store.Cursors].
func (s *Store) Spare(ctx context.Context, spared []store.Spared) error {
	if len(spared) == 0 {
		return nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	spared = slices.Clone(spared)
	err := s.writer.do(ctx, len(spared), func(t *tx) error {
		for _, e := range spared {
			_, err := t.exec(`INSERT INTO spared (channel, user, device, last, first, expires) VALUES (?, ?, ?, ?, ?, ?)
				ON CONFLICT (channel, user, device, last, first) DO UPDATE SET expires = max(expires, excluded.expires)`,
				string(e.Channel), string(e.User), string(e.Device), stored(e.Last), stored(e.First), millis(e.ExpiresAt))
			if err != nil {
				return fmt.Errorf("user %s, channel %s: %w", e.User, e.Channel, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note what devices were spared: %w", err)
	}
	return nil
}
