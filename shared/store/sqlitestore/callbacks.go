package sqlitestore

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// callbackColumns are those that scanCallback reads.
const callbackColumns = `message, source, state, due, attempts, since, reason, progress, until, claim`

func scanCallback(scan func(...any) error) (store.Callback, error) {
	var c store.Callback
	var due, since, until int64
	err := scan(&c.Message, &c.Source, &c.State, &due, &c.Attempts, &since, &c.Reason, &c.Progress, &until, &c.Claim)
	c.DueAt, c.FailingSince, c.Until = moment(due), moment(since), moment(until)
	return c, err
}

// PutCallbacks writes entries; see [store.Callbacks].
func (s *Store) PutCallbacks(ctx context.Context, entries []store.Callback) error {
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	entries = slices.Clone(entries)
	err := s.writer.do(ctx, len(entries), func(t *tx) error {
		for _, c := range entries {
			_, err := t.exec(`INSERT INTO callbacks (message, source, state, due, attempts, since, reason, progress, until)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`, string(c.Message), c.Source, int(c.State),
				millis(c.DueAt), c.Attempts, millis(c.FailingSince), c.Reason, c.Progress, millis(c.Until))
			if err != nil {
				return fmt.Errorf("message %s: %w", c.Message, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("put callbacks: %w", err)
	}
	return nil
}

// ClaimCallbacks claims due entries; see [store.Callbacks].
func (s *Store) ClaimCallbacks(ctx context.Context, now, until time.Time, limit int) ([]store.Callback, error) {
	if limit <= 0 {
		return nil, nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	mark := rand.Text()
	var claimed []store.Callback
	err := s.writer.do(ctx, limit, func(t *tx) error {
		const text = `UPDATE callbacks SET claimed = ?2, claim = ?4 WHERE message IN
			(SELECT message FROM callbacks WHERE state = 0 AND due <= ?1 AND claimed <= ?1 ORDER BY due, message LIMIT ?3 + 0)
			RETURNING ` + callbackColumns
		return t.rows(text, []any{millis(now), millis(until), limit, mark}, func(scan func(...any) error) error {
			c, err := scanCallback(scan)
			claimed = append(claimed, c)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("claim callbacks: %w", err)
	}
	slices.SortFunc(claimed, func(a, b store.Callback) int { // RETURNING has no order
		return cmp.Or(a.DueAt.Compare(b.DueAt), cmp.Compare(a.Message, b.Message))
	})
	return claimed, nil
}

// KeepCallbacks keeps what became of entries; see [store.Callbacks].
func (s *Store) KeepCallbacks(ctx context.Context, entries []store.Callback) error {
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	entries = slices.Clone(entries)
	err := s.writer.do(ctx, len(entries), func(t *tx) error {
		for _, c := range entries {
			_, err := t.exec(`UPDATE callbacks SET state = ?, due = ?, attempts = ?, since = ?, reason = ?, progress = ?, claimed = 0, claim = ''
				WHERE message = ? AND claim = ? AND claim <> ''`, int(c.State), millis(c.DueAt), c.Attempts, millis(c.FailingSince),
				c.Reason, c.Progress, string(c.Message), c.Claim)
			if err != nil {
				return fmt.Errorf("message %s: %w", c.Message, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep callbacks: %w", err)
	}
	return nil
}

// ListCallbacks returns what is parked; see [store.Callbacks].
func (s *Store) ListCallbacks(ctx context.Context, q store.CallbacksQuery) ([]store.Callback, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	if q.Limit <= 0 {
		q.Limit = store.DefaultParked
	}
	var list []store.Callback
	const text = `SELECT ` + callbackColumns + ` FROM callbacks
		WHERE state = 1 AND (due, message) > (?, ?) ORDER BY due, message LIMIT ? + 0`
	err := s.query(ctx, text, []any{millis(q.AfterAt), string(q.AfterMessage), q.Limit}, func(scan func(...any) error) (bool, error) {
		c, err := scanCallback(scan)
		list = append(list, c)
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("list parked callbacks: %w", err)
	}
	return list, nil
}

// ReplayCallback has a parked entry wait again; see [store.Callbacks].
func (s *Store) ReplayCallback(ctx context.Context, id push.MessageID, due time.Time) (bool, error) {
	return s.changeCallback(ctx, "replay", id,
		`UPDATE callbacks SET state = 0, due = ?2, attempts = 0, since = 0, claimed = 0, claim = '' WHERE message = ?1 AND state = 1`,
		string(id), millis(due))
}

// DiscardCallback ends a parked entry; see [store.Callbacks].
func (s *Store) DiscardCallback(ctx context.Context, id push.MessageID) (bool, error) {
	return s.changeCallback(ctx, "discard", id, `UPDATE callbacks SET state = 2 WHERE message = ?1 AND state = 1`, string(id))
}

// changeCallback runs one statement and reports whether it has changed an entry.
func (s *Store) changeCallback(ctx context.Context, what string, id push.MessageID, text string, args ...any) (bool, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	changed := 0
	err := s.writer.do(ctx, 1, func(t *tx) (err error) {
		changed, err = t.exec(text, args...)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("%s the callback of message %s: %w", what, id, err)
	}
	return changed == 1, nil
}
