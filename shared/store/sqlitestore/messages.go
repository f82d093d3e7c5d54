package sqlitestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// InsertMessages stores records; see [store.Messages].
func (s *Store) InsertMessages(ctx context.Context, records []store.Record) ([]store.Insertion, error) {
	if len(records) == 0 {
		return nil, nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	records = slices.Clone(records) // the writer may come to it after the caller has left
	insertions := make([]store.Insertion, len(records))
	err := s.writer.do(ctx, len(records), func(t *tx) error {
		for i := range records {
			var err error
			if insertions[i], err = insertMessage(t, &records[i]); err != nil {
				return fmt.Errorf("message %s: %w", records[i].ID, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("insert messages: %w", err)
	}
	return insertions, nil
}

func insertMessage(t *tx, r *store.Record) (store.Insertion, error) {
	recipients, err := json.Marshal(r.To)
	if err != nil {
		return store.Insertion{}, fmt.Errorf("encode recipients: %w", err)
	}
	n, err := t.exec(`INSERT INTO messages
		(id, fingerprint, created, expires, deliver, event, collapse, trace, data, recipients)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		string(r.ID), r.Fingerprint, millis(r.CreatedAt), millis(r.ExpiresAt), millis(r.DeliverAt),
		r.Event, r.CollapseKey, r.Trace, []byte(r.Data), recipients)
	if err != nil {
		return store.Insertion{}, err
	}
	if n == 1 {
		return store.Insertion{Fingerprint: r.Fingerprint, CreatedAt: moment(millis(r.CreatedAt))}, nil
	}
	in := store.Insertion{Repeat: true}
	var created int64
	err = t.row(`SELECT fingerprint, created FROM messages WHERE id = ?`, []any{string(r.ID)}, &in.Fingerprint, &created)
	in.CreatedAt = moment(created)
	return in, err
}

// messageColumns are what scanMessage reads, in its order.
const messageColumns = `m.id, m.created, m.expires, m.deliver, m.event, m.collapse, m.trace, m.data`

// scanMessage reads a message without its recipients, and into extra whatever
// the query selects before it.
func scanMessage(scan func(...any) error, m *push.Message, extra ...any) error {
	var created, expires, deliver int64
	var data []byte
	err := scan(append(extra, &m.ID, &created, &expires, &deliver, &m.Event, &m.CollapseKey, &m.Trace, &data)...)
	if err != nil {
		return err
	}
	if len(data) > 0 {
		m.Data = data
	}
	m.CreatedAt, m.ExpiresAt, m.DeliverAt = moment(created), moment(expires), moment(deliver)
	return nil
}

// LoadMessages returns the records of ids; see [store.Messages].
func (s *Store) LoadMessages(ctx context.Context, ids []push.MessageID) (map[push.MessageID]store.Record, error) {
	records := make(map[push.MessageID]store.Record, len(ids))
	if len(ids) == 0 {
		return records, nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, fmt.Errorf("load messages: %w", err)
	}
	const text = `SELECT m.fingerprint, m.recipients, ` + messageColumns + `
		FROM messages m WHERE m.id IN (SELECT value FROM json_each(?))`
	err = s.query(ctx, text, []any{string(list)}, func(scan func(...any) error) (bool, error) {
		var r store.Record
		var recipients []byte
		if err := scanMessage(scan, &r.Message, &r.Fingerprint, &recipients); err != nil {
			return false, err
		}
		if err := json.Unmarshal(recipients, &r.To); err != nil {
			return false, fmt.Errorf("decode recipients of message %s: %w", r.ID, err)
		}
		records[r.ID] = r
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("load messages: %w", err)
	}
	return records, nil
}

// millis is how a time is kept: 0 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// moment is the time that was kept as ms.
func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// missing reports whether err means only that there is no such row.
func missing(err error) bool { return errors.Is(err, store.ErrNotFound) }
