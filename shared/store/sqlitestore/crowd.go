package sqlitestore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// QuietDevices returns devices that may be forgotten; see [store.Cursors].
func (s *Store) QuietDevices(ctx context.Context, user push.UserID, after push.Device, quiet time.Time) ([]push.Device, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	var seen []store.SeenDevice
	for _, text := range []string{
		`SELECT device, updated FROM cursors INDEXED BY cursors_channel
			WHERE channel = ? AND user = ? AND device > ? ORDER BY device LIMIT ? + 0`,
		`SELECT device, updated FROM cursors INDEXED BY cursors_channel
			WHERE channel = ? AND user = ? AND device <= ? ORDER BY device LIMIT ? + 0`,
	} {
		args := []any{string(push.Personal(user)), string(user), string(after), store.MaxSeen - len(seen)}
		err := s.query(ctx, text, args, func(scan func(...any) error) (bool, error) {
			var d store.SeenDevice
			var updated int64
			if err := scan(&d.Device, &updated); err != nil {
				return false, err
			}
			d.At = moment(updated)
			seen = append(seen, d)
			return true, nil
		})
		if err != nil {
			return nil, fmt.Errorf("look for quiet devices of user %s: %w", user, err)
		}
	}
	return store.Quiet(seen, quiet), nil
}

// ForgetDevices forgets devices; see [store.Cursors]. A transaction does it.
func (s *Store) ForgetDevices(ctx context.Context, user push.UserID, devices []push.Device, quiet time.Time) error {
	if len(devices) == 0 {
		return nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	devices = slices.Clone(devices)
	personal := string(push.Personal(user))
	err := s.writer.do(ctx, len(devices), func(t *tx) error {
		for _, device := range devices {
			if _, err := t.exec(`DELETE FROM cursors WHERE user = ? AND device = ? AND channel = ? AND updated <= ?`,
				string(user), string(device), personal, millis(quiet)); err != nil {
				return err
			}
			if _, err := t.exec(`DELETE FROM cursors WHERE user = ?1 AND device = ?2 AND updated < ?4
				AND NOT EXISTS (SELECT 1 FROM cursors WHERE user = ?1 AND device = ?2 AND channel = ?3)`,
				string(user), string(device), personal, millis(store.ForgottenBefore(quiet))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget devices of user %s: %w", user, err)
	}
	return nil
}
