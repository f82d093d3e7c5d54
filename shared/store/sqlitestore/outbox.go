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
	ordered, work := 0, len(entries)
	for i := range entries {
		if n := len(entries[i].Channels); n > 0 {
			ordered++
			work += n
		}
	}
	err := s.writer.do(ctx, work, func(t *tx) error {
		sequence, err := t.sequences(ordered)
		if err != nil {
			return err
		}
		for i := range entries {
			e := &entries[i]
			if e.Sequence = 0; len(e.Channels) > 0 {
				e.Sequence, sequence = sequence, sequence+1
			}
			if err := t.putOutbox(e); err != nil {
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
	// The plain ones behind the ordered ones, each kind by an index of its own.
	const texts = `UPDATE outbox SET claimed = ?2 WHERE message IN
			(SELECT message FROM outbox WHERE state = 0 AND %s AND due <= ?1 AND claimed <= ?1 ORDER BY %s LIMIT ?3 + 0)
			RETURNING message, due, attempts, reason, sequence, channels`
	var ordered, plain []store.OutboxEntry
	err := s.writer.do(ctx, limit, func(t *tx) (err error) {
		if ordered, err = t.claim(fmt.Sprintf(texts, "sequence > 0", "sequence"), now, until, limit); err != nil {
			return err
		}
		plain, err = t.claim(fmt.Sprintf(texts, "sequence = 0", "due, message"), now, until, limit)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claim from outbox: %w", err)
	}
	// RETURNING has no order.
	slices.SortFunc(ordered, func(a, b store.OutboxEntry) int { return cmp.Compare(a.Sequence, b.Sequence) })
	slices.SortFunc(plain, func(a, b store.OutboxEntry) int {
		return cmp.Or(a.DueAt.Compare(b.DueAt), cmp.Compare(a.Message, b.Message))
	})
	return append(ordered, plain...), nil
}

// claim runs text, which claims entries, and returns them in no order.
func (t *tx) claim(text string, now, until time.Time, limit int) ([]store.OutboxEntry, error) {
	var claimed []store.OutboxEntry
	err := t.rows(text, []any{millis(now), millis(until), limit}, func(scan func(...any) error) error {
		e, err := scanOutbox(scan)
		claimed = append(claimed, e)
		return err
	})
	return claimed, err
}

// scanOutbox reads an entry, and behind its own columns what extra takes.
func scanOutbox(scan func(...any) error, extra ...any) (store.OutboxEntry, error) {
	var e store.OutboxEntry
	var due int64
	var channels []byte
	if err := scan(append([]any{&e.Message, &due, &e.Attempts, &e.Reason, &e.Sequence, &channels}, extra...)...); err != nil {
		return e, err
	}
	e.DueAt = moment(due)
	if len(channels) > len("[]") {
		if err := json.Unmarshal(channels, &e.Channels); err != nil {
			return e, fmt.Errorf("decode channels of outbox entry %s: %w", e.Message, err)
		}
	}
	return e, nil
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
		if _, err := t.exec(`DELETE FROM outbox_channels WHERE (channel, sequence) IN
			(SELECT value, sequence FROM outbox, json_each(channels)
			 WHERE state = 0 AND sequence > 0 AND message IN (SELECT value FROM json_each(?)))`, string(list)); err != nil {
			return err
		}
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
			_, err := t.exec(`UPDATE outbox SET due = ?, attempts = ?, reason = ?, claimed = 0 WHERE message = ? AND state = 0`,
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

// CancelOutbox takes an entry back that nobody has tried; see [store.Outbox].
func (s *Store) CancelOutbox(ctx context.Context, id push.MessageID, at, until time.Time) (bool, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	cancelled := false
	err := s.writer.do(ctx, 1, func(t *tx) error {
		n, err := t.exec(`UPDATE outbox SET state = 2, changed = ?2, until = ?3
			WHERE message = ?1 AND state = 0 AND claimed = 0 AND attempts = 0`, string(id), millis(at), millis(until))
		if err == nil && n == 1 {
			err = t.stopWaiting(id)
		}
		if err != nil {
			return err
		}
		var state store.OutboxState
		err = t.row(`SELECT state FROM outbox WHERE message = ?`, []any{string(id)}, &state)
		if missing(err) {
			return nil
		}
		cancelled = state == store.Cancelled
		return err
	})
	if err != nil {
		return false, fmt.Errorf("cancel message %s: %w", id, err)
	}
	return cancelled, nil
}

// LoadOutbox returns the entries of ids; see [store.Outbox].
func (s *Store) LoadOutbox(ctx context.Context, ids []push.MessageID) (map[push.MessageID]store.OutboxRecord, error) {
	records := make(map[push.MessageID]store.OutboxRecord, len(ids))
	if len(ids) == 0 {
		return records, nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, fmt.Errorf("load from outbox: %w", err)
	}
	const text = `SELECT message, due, attempts, reason, sequence, channels, state, changed FROM outbox
		WHERE message IN (SELECT value FROM json_each(?))`
	err = s.query(ctx, text, []any{string(list)}, func(scan func(...any) error) (bool, error) {
		var r store.OutboxRecord
		var changed int64
		var err error
		if r.OutboxEntry, err = scanOutbox(scan, &r.State, &changed); err != nil {
			return false, err
		}
		r.ChangedAt = moment(changed)
		if r.State != store.Waiting {
			r.DueAt, r.Sequence = time.Time{}, 0
		}
		records[r.Message] = r
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("load from outbox: %w", err)
	}
	return records, nil
}
