package sqlitestore

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A term is how a [push.Term] is kept.
type term struct {
	Number  int64       `json:"number"`
	Marker  string      `json:"marker"`
	RunID   string      `json:"run_id"`
	Floor   push.Offset `json:"floor"`
	Ceiling push.Offset `json:"ceiling"`
}

const controlValue = `SELECT value FROM control WHERE name = ?`

// Term returns the newest term; see [store.Control].
func (s *Store) Term(ctx context.Context) (push.Term, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	var value string
	err := s.queryRow(ctx, controlValue, []any{"term"}, &value)
	if missing(err) {
		return push.Term{}, nil
	}
	if err != nil {
		return push.Term{}, fmt.Errorf("read the term: %w", err)
	}
	return parseTerm(value)
}

// TermLasts reports whether the newest term has marker; see [store.Control].
func (s *Store) TermLasts(ctx context.Context, marker string) (bool, error) {
	t, err := s.Term(ctx)
	return err == nil && t.Number > 0 && t.Marker == marker, err
}

func parseTerm(value string) (push.Term, error) {
	var kept term
	if err := json.Unmarshal([]byte(value), &kept); err != nil {
		return push.Term{}, fmt.Errorf("decode the term: %w", err)
	}
	return push.Term(kept), nil
}

// SwapTerm replaces the term; see [store.Control].
func (s *Store) SwapTerm(ctx context.Context, old, next push.Term) (bool, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	value, err := json.Marshal(term(next))
	if err != nil {
		return false, fmt.Errorf("encode the term: %w", err)
	}
	swapped := false
	err = s.writer.do(ctx, 1, func(t *tx) error {
		var current push.Term
		var kept string
		err := t.row(controlValue, []any{"term"}, &kept)
		if err == nil {
			current, err = parseTerm(kept)
		}
		if err != nil && !missing(err) {
			return err
		}
		if current != old {
			return nil
		}
		swapped = true
		_, err = t.exec(`INSERT INTO control (name, value) VALUES ('term', ?)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value`, string(value))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("swap the term: %w", err)
	}
	return swapped, nil
}

// Epoch returns the name of this store's life; see [store.Control].
func (s *Store) Epoch(ctx context.Context) (string, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	var epoch string
	err := s.queryRow(ctx, controlValue, []any{"epoch"}, &epoch)
	if missing(err) {
		var made string
		err = s.writer.do(ctx, 1, func(t *tx) error {
			if _, err := t.exec(`INSERT INTO control (name, value) VALUES ('epoch', ?) ON CONFLICT DO NOTHING`, rand.Text()); err != nil {
				return err
			}
			return t.row(controlValue, []any{"epoch"}, &made)
		})
		if err == nil {
			return made, nil
		}
	}
	if err != nil {
		return "", fmt.Errorf("read the epoch: %w", err)
	}
	return epoch, nil
}

// sweepRows is how many rows one write of a sweep removes: few enough that
// other writes do not wait long.
const sweepRows = 1000

// Sweep removes what has outlived its time; see [store.Store]. It works in
// small steps, each with the store's own deadline; ctx bounds the whole.
func (s *Store) Sweep(ctx context.Context, now time.Time) (int, error) {
	steps := []struct {
		text   string
		before time.Time
	}{
		{`DELETE FROM inbox WHERE (channel, offset) IN (SELECT channel, offset FROM inbox WHERE expires <= ? LIMIT ? + 0)`, now},
		{`DELETE FROM messages WHERE rowid IN (SELECT rowid FROM messages WHERE expires <= ? LIMIT ? + 0)`, now.Add(-push.RepeatWindow)},
		{`DELETE FROM cursors WHERE (user, device, channel) IN
			(SELECT user, device, channel FROM cursors WHERE updated <= ? LIMIT ? + 0)`, now.Add(-store.CursorIdle)},
		{`DELETE FROM outbox WHERE message IN (SELECT message FROM outbox WHERE state > 0 AND until <= ? LIMIT ? + 0)`, now},
		{`DELETE FROM spared WHERE (channel, user, device, last, first) IN
			(SELECT channel, user, device, last, first FROM spared WHERE expires <= ? LIMIT ? + 0)`, now.Add(-push.RepeatWindow)},
		{`DELETE FROM revocations WHERE (user, token) IN (SELECT user, token FROM revocations WHERE until <= ? LIMIT ? + 0)`, now},
		{`DELETE FROM callbacks WHERE rowid IN (SELECT rowid FROM callbacks WHERE until <= ? LIMIT ? + 0)`, now},
		{`DELETE FROM deliveries WHERE rowid IN (SELECT rowid FROM deliveries WHERE until <= ? LIMIT ? + 0)`, now},
	}
	swept := 0
	for _, step := range steps {
		for {
			n, err := s.sweepStep(ctx, step.text, step.before)
			swept += n
			if err != nil {
				return swept, fmt.Errorf("sweep: %w", err)
			}
			if n < sweepRows {
				break
			}
		}
	}
	return swept, nil
}

func (s *Store) sweepStep(ctx context.Context, text string, before time.Time) (int, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	n := 0
	err := s.writer.do(ctx, sweepRows, func(t *tx) (err error) {
		n, err = t.exec(text, millis(before), sweepRows)
		return err
	})
	if err != nil {
		return 0, err // n may still be written to
	}
	return n, nil
}
