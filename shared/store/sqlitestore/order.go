package sqlitestore

import (
	"context"
	"encoding/json"
	"fmt"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// sequences takes n numbers of the outbox' order, each used once in the life of
// the file, and returns the first.
func (t *tx) sequences(n int) (int64, error) {
	if n == 0 {
		return 0, nil
	}
	var last int64
	err := t.row(`INSERT INTO control (name, value) VALUES ('outbox', ?)
		ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + CAST(excluded.value AS INTEGER)
		RETURNING CAST(value AS INTEGER)`, []any{n}, &last)
	return last - int64(n) + 1, err
}

// putOutbox writes one entry, unless its message has one.
func (t *tx) putOutbox(e *store.OutboxEntry) error {
	channels := []byte("[]")
	if len(e.Channels) > 0 {
		var err error
		if channels, err = json.Marshal(e.Channels); err != nil {
			return fmt.Errorf("encode channels: %w", err)
		}
	}
	n, err := t.exec(`INSERT INTO outbox (message, due, attempts, reason, sequence, channels)
		VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		string(e.Message), millis(e.DueAt), e.Attempts, e.Reason, e.Sequence, string(channels))
	if err == nil && n == 1 && e.Sequence > 0 {
		err = t.startWaiting(e.Message)
	}
	return err
}

// startWaiting notes the channels that an ordered entry begins to wait for.
func (t *tx) startWaiting(id push.MessageID) error {
	_, err := t.exec(`INSERT OR IGNORE INTO outbox_channels (channel, sequence)
		SELECT value, sequence FROM outbox, json_each(channels) WHERE message = ? AND sequence > 0`, string(id))
	return err
}

// stopWaiting forgets the channels of an entry that stopped waiting.
func (t *tx) stopWaiting(id push.MessageID) error {
	_, err := t.exec(`DELETE FROM outbox_channels WHERE (channel, sequence) IN
		(SELECT value, sequence FROM outbox, json_each(channels) WHERE message = ? AND sequence > 0)`, string(id))
	return err
}

// AnyBacklog looks for any ordered entry that waits; see [store.Outbox].
func (s *Store) AnyBacklog(ctx context.Context) (bool, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	found, err := s.any(ctx, `SELECT 1 FROM outbox WHERE state = 0 AND sequence > 0 LIMIT 1`)
	if err != nil {
		return false, fmt.Errorf("look for a backlog: %w", err)
	}
	return found, nil
}

// any reports whether text finds a row, which is a single number.
func (s *Store) any(ctx context.Context, text string, args ...any) (bool, error) {
	var n int
	err := s.queryRow(ctx, text, args, &n)
	if missing(err) {
		return false, nil
	}
	return err == nil, err
}

// Backlog returns the channels that an entry waits for; see [store.Outbox].
func (s *Store) Backlog(ctx context.Context, channels []push.Channel) (map[push.Channel]bool, error) {
	backlog := make(map[push.Channel]bool)
	if len(channels) == 0 {
		return backlog, nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	list, err := json.Marshal(channels)
	if err != nil {
		return nil, fmt.Errorf("look for a backlog: %w", err)
	}
	const text = `SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM outbox_channels WHERE channel = json_each.value)`
	err = s.query(ctx, text, []any{string(list)}, func(scan func(...any) error) (bool, error) {
		var channel push.Channel
		err := scan(&channel)
		backlog[channel] = true
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("look for a backlog: %w", err)
	}
	return backlog, nil
}

// Ahead returns what entries have to wait for; see [store.Outbox].
func (s *Store) Ahead(ctx context.Context, entries []store.OutboxEntry) (map[push.Channel]store.Ahead, error) {
	ahead := make(map[push.Channel]store.Ahead)
	order := store.OrderOf(entries)
	if order.Largest == 0 {
		return ahead, nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	own, err := json.Marshal(order.Sequences)
	if err != nil {
		return nil, fmt.Errorf("look ahead in the outbox: %w", err)
	}
	// Where one claimant works through a backlog there is nobody else, mostly.
	others, err := s.any(ctx, `SELECT 1 FROM outbox WHERE state = 0 AND sequence > 0 AND sequence < ?
		AND sequence NOT IN (SELECT value FROM json_each(?)) LIMIT 1`, order.Largest, string(own))
	if err != nil {
		return nil, fmt.Errorf("look ahead in the outbox: %w", err)
	}
	if !others {
		return ahead, nil
	}
	channels, err := json.Marshal(order.Channels())
	if err != nil {
		return nil, fmt.Errorf("look ahead in the outbox: %w", err)
	}
	const text = `SELECT json_each.value, outbox.sequence, outbox.due FROM json_each(?1) CROSS JOIN outbox
		WHERE outbox.state = 0 AND outbox.sequence > 0 AND outbox.sequence < ?3 AND outbox.sequence =
			(SELECT min(sequence) FROM outbox_channels WHERE channel = json_each.value
			 AND sequence NOT IN (SELECT value FROM json_each(?2)))`
	err = s.query(ctx, text, []any{string(channels), string(own), order.Largest}, func(scan func(...any) error) (bool, error) {
		var channel push.Channel
		var a store.Ahead
		var due int64
		err := scan(&channel, &a.Sequence, &due)
		a.DueAt = moment(due)
		ahead[channel] = a
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("look ahead in the outbox: %w", err)
	}
	return ahead, nil
}
