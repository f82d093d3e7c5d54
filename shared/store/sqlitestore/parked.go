package sqlitestore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// ParkOutbox takes entries out of the queue; see [store.Parking].
func (s *Store) ParkOutbox(ctx context.Context, entries []store.ParkedEntry) error {
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	entries = slices.Clone(entries)
	err := s.writer.do(ctx, len(entries), func(t *tx) error {
		for _, e := range entries {
			n, err := t.exec(`UPDATE outbox SET state = 1, attempts = ?, reason = ?, changed = ?, until = ? WHERE message = ? AND state = 0`,
				e.Attempts, e.Reason, millis(e.At), millis(e.Until), string(e.Message))
			if err == nil && n == 1 {
				err = t.stopWaiting(e.Message)
			}
			if err != nil {
				return fmt.Errorf("message %s: %w", e.Message, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("park: %w", err)
	}
	return nil
}

// ListParked returns what is parked; see [store.Parking].
func (s *Store) ListParked(ctx context.Context, q store.ParkedQuery) ([]store.ParkedEntry, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	if q.Limit <= 0 {
		q.Limit = store.DefaultParked
	}
	var entries []store.ParkedEntry
	const text = `SELECT message, attempts, reason, changed, until FROM outbox
		WHERE state = 1 AND (changed, message) > (?, ?) ORDER BY changed, message LIMIT ? + 0`
	args := []any{millis(q.AfterAt), string(q.AfterMessage), q.Limit}
	err := s.query(ctx, text, args, func(scan func(...any) error) (bool, error) {
		var e store.ParkedEntry
		var at, until int64
		if err := scan(&e.Message, &e.Attempts, &e.Reason, &at, &until); err != nil {
			return false, err
		}
		e.At, e.Until = moment(at), moment(until)
		entries = append(entries, e)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list what is parked: %w", err)
	}
	return entries, nil
}

// ReplayParked has a parked entry wait again; see [store.Parking].
func (s *Store) ReplayParked(ctx context.Context, id push.MessageID, due time.Time) (bool, error) {
	return s.unpark(ctx, "replay", id, func(t *tx) (int, error) {
		sequence, err := t.sequences(1)
		if err != nil {
			return 0, err
		}
		n, err := t.exec(`UPDATE outbox SET state = 0, due = ?2, attempts = 1, claimed = 0, changed = 0, until = 0,
			sequence = CASE channels WHEN '[]' THEN 0 ELSE ?3 END WHERE message = ?1 AND state = 1`, string(id), millis(due), sequence)
		if err == nil && n == 1 {
			err = t.startWaiting(id)
		}
		return n, err
	})
}

// DiscardParked cancels a parked entry; see [store.Parking].
func (s *Store) DiscardParked(ctx context.Context, id push.MessageID, at time.Time) (bool, error) {
	return s.unpark(ctx, "discard", id, func(t *tx) (int, error) {
		return t.exec(`UPDATE outbox SET state = 2, changed = ?2 WHERE message = ?1 AND state = 1`, string(id), millis(at))
	})
}

// unpark runs change, which tells how many entries it changed: that of id, if it
// is parked. It reports whether there was one.
func (s *Store) unpark(ctx context.Context, what string, id push.MessageID, change func(*tx) (int, error)) (bool, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	changed := 0
	err := s.writer.do(ctx, 1, func(t *tx) (err error) {
		changed, err = change(t)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("%s parked message %s: %w", what, id, err)
	}
	return changed == 1, nil
}
