package sqlitestore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

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
func (s *Store) AdvanceCursors(ctx context.Context, cursors []store.Cursor) error {
	err := s.writeCursors(ctx, cursors, func(t *tx, c store.Cursor) error {
		_, err := t.exec(`INSERT INTO cursors (user, device, channel, received, acknowledged, updated, start)
			VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (user, device, channel) DO UPDATE SET
			received     = max(received, excluded.received),
			acknowledged = max(acknowledged, excluded.acknowledged),
			updated      = max(updated, excluded.updated)`,
			string(c.User), string(c.Device), string(c.Channel), stored(c.Received), stored(c.Acknowledged), millis(c.UpdatedAt), stored(c.Start))
		return err
	})
	if err != nil {
		return fmt.Errorf("advance cursors: %w", err)
	}
	return nil
}

// TouchCursors raises when cursors were updated; see [store.Cursors].
func (s *Store) TouchCursors(ctx context.Context, cursors []store.Cursor) error {
	err := s.writeCursors(ctx, cursors, func(t *tx, c store.Cursor) error {
		_, err := t.exec(`UPDATE cursors SET updated = ?4 WHERE user = ?1 AND device = ?2 AND channel = ?3 AND updated < ?4`,
			string(c.User), string(c.Device), string(c.Channel), millis(c.UpdatedAt))
		return err
	})
	if err != nil {
		return fmt.Errorf("touch cursors: %w", err)
	}
	return nil
}

// writeCursors has write called with each of cursors, in one transaction.
func (s *Store) writeCursors(ctx context.Context, cursors []store.Cursor, write func(*tx, store.Cursor) error) error {
	if len(cursors) == 0 {
		return nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	cursors = slices.Clone(cursors)
	return s.writer.do(ctx, len(cursors), func(t *tx) error {
		for _, c := range cursors {
			if err := write(t, c); err != nil {
				return fmt.Errorf("user %s, channel %s: %w", c.User, c.Channel, err)
			}
		}
		return nil
	})
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
