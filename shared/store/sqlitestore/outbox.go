package sqlitestore

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// PutOutbox writes entries; see [store.Outbox].
func (s *Store) PutOutbox(ctx context.Context, entries []store.OutboxEntry) error {
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	entries = slices.Clone(entries)
	err := s.writer.do(ctx, len(entries), func(t *tx) error {
		for _, e := range entries {
			_, err := t.exec(`INSERT INTO outbox (message, due, attempts, reason) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
				string(e.Message), millis(e.DueAt), e.Attempts, e.Reason)
			if err != nil {
				return fmt.Errorf("message %s: %w", e.Message, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("put into outbox: %w", err)
	}
	return nil
}

// ClaimOutbox claims due entries; see [store.Outbox].
func (s *Store) ClaimOutbox(ctx context.Context, now, until time.Time, limit int) ([]store.OutboxEntry, error) {
	if limit <= 0 {
		return nil, nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	var claimed []store.OutboxEntry
	err := s.writer.do(ctx, limit, func(t *tx) error {
		const text = `UPDATE outbox SET claimed = ?2 WHERE message IN
			(SELECT message FROM outbox WHERE due <= ?1 AND claimed <= ?1 ORDER BY due, message LIMIT ?3)
			RETURNING message, due, attempts, reason`
		return t.rows(text, []any{millis(now), millis(until), limit}, func(scan func(...any) error) error {
			var e store.OutboxEntry
			var due int64
			if err := scan(&e.Message, &due, &e.Attempts, &e.Reason); err != nil {
				return err
			}
			e.DueAt = moment(due)
			claimed = append(claimed, e)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("claim from outbox: %w", err)
	}
	slices.SortFunc(claimed, func(a, b store.OutboxEntry) int { // RETURNING has no order
		return cmp.Or(a.DueAt.Compare(b.DueAt), cmp.Compare(a.Message, b.Message))
	})
	return claimed, nil
}

// ConfirmOutbox removes entries; see [store.Outbox].
func (s *Store) ConfirmOutbox(ctx context.Context, ids []push.MessageID) error {
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	list, err := json.Marshal(ids)
	if err != nil {
		return fmt.Errorf("confirm outbox: %w", err)
	}
	err = s.writer.do(ctx, len(ids), func(t *tx) error {
		_, err := t.exec(`DELETE FROM outbox WHERE message IN (SELECT value FROM json_each(?))`, string(list))
		return err
	})
	if err != nil {
		return fmt.Errorf("confirm outbox: %w", err)
	}
	return nil
}

// RetryOutbox gives entries another due time; see [store.Outbox].
func (s *Store) RetryOutbox(ctx context.Context, entries []store.OutboxEntry) error {
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	entries = slices.Clone(entries)
	err := s.writer.do(ctx, len(entries), func(t *tx) error {
		for _, e := range entries {
			_, err := t.exec(`UPDATE outbox SET due = ?, attempts = ?, reason = ?, claimed = 0 WHERE message = ?`,
				millis(e.DueAt), e.Attempts, e.Reason, string(e.Message))
			if err != nil {
				return fmt.Errorf("message %s: %w", e.Message, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("retry outbox: %w", err)
	}
	return nil
}
