package sqlitestore

import (
	"context"
	"fmt"

	"pushcluster/shared/store"
)

// PutSource keeps a source; see [store.Sources].
func (s *Store) PutSource(ctx context.Context, r store.SourceRecord, most int) error {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	err := s.writer.do(ctx, 1, func(t *tx) error {
		var others int
		if err := t.row(`SELECT count(*) FROM sources WHERE name <> ?`, []any{r.Name}, &others); err != nil {
			return err
		}
		if others >= most {
			return store.ErrFull
		}
		_, err := t.exec(`INSERT INTO sources (name, definition, updated) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, updated = excluded.updated`,
			r.Name, r.Definition, millis(r.UpdatedAt))
		return err
	})
	if err != nil {
		return fmt.Errorf("keep source %q: %w", r.Name, err)
	}
	return nil
}

// ListSources returns all sources; see [store.Sources].
func (s *Store) ListSources(ctx context.Context) ([]store.SourceRecord, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	var list []store.SourceRecord
	err := s.query(ctx, `SELECT name, definition, updated FROM sources ORDER BY name`, nil, func(scan func(...any) error) (bool, error) {
		var r store.SourceRecord
		var updated int64
		if err := scan(&r.Name, &r.Definition, &updated); err != nil {
			return false, err
		}
		r.UpdatedAt = moment(updated)
		list = append(list, r)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list sources: %w", err)
	}
	return list, nil
}

// RemoveSource removes a source; see [store.Sources].
func (s *Store) RemoveSource(ctx context.Context, name string) (bool, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	removed := 0
	err := s.writer.do(ctx, 1, func(t *tx) (err error) {
		removed, err = t.exec(`DELETE FROM sources WHERE name = ?`, name)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("remove source %q: %w", name, err)
	}
	return removed > 0, nil
}
