package sqlitestore

import (
	"context"
	"fmt"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// AddRevocation keeps a revocation; see [store.Control].
func (s *Store) AddRevocation(ctx context.Context, r push.Revocation, now time.Time, most int) error {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	err := s.writer.do(ctx, 1, func(t *tx) error {
		var others int
		err := t.row(`SELECT count(*) FROM revocations WHERE until > ? AND NOT (user = ? AND token = ?)`,
			[]any{millis(now), string(r.User), r.TokenID}, &others)
		if err != nil {
			return err
		}
		if others >= most {
			return store.ErrFull
		}
		_, err = t.exec(`INSERT INTO revocations (user, token, at, until) VALUES (?, ?, ?, ?)
			ON CONFLICT (user, token) DO UPDATE SET at = max(at, excluded.at), until = max(until, excluded.until)`,
			string(r.User), r.TokenID, millis(r.At), millis(r.Until))
		return err
	})
	if err != nil {
		return fmt.Errorf("keep a revocation: %w", err)
	}
	return nil
}

// ListRevocations returns what is revoked at now; see [store.Control].
func (s *Store) ListRevocations(ctx context.Context, now time.Time) ([]push.Revocation, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	var list []push.Revocation
	const text = `SELECT user, token, at, until FROM revocations WHERE until > ?`
	err := s.query(ctx, text, []any{millis(now)}, func(scan func(...any) error) (bool, error) {
		var r push.Revocation
		var at, until int64
		if err := scan(&r.User, &r.TokenID, &at, &until); err != nil {
			return false, err
		}
		r.At, r.Until = moment(at), moment(until)
		list = append(list, r)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list revocations: %w", err)
	}
	return list, nil
}
