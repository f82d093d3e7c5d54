package sqlitestore

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// insertRows is how many entries one statement inserts at most: enough to make
// the cost of a statement small beside that of its rows.
const insertRows = 64

var (
	insertMany = insertEntries(insertRows)
	insertOne  = insertEntries(1)
)

func insertEntries(n int) string {
	return `INSERT INTO inbox (channel, offset, message, collapse, expires) VALUES (?, ?, ?, ?, ?)` +
		strings.Repeat(`, (?, ?, ?, ?, ?)`, n-1) + ` ON CONFLICT DO NOTHING`
}

// WriteInbox writes entries; see [store.Inbox].
func (s *Store) WriteInbox(ctx context.Context, entries []store.InboxEntry) ([]store.Placement, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	entries = slices.Clone(entries)
	placements := make([]store.Placement, len(entries))
	err := s.writer.do(ctx, len(entries), func(t *tx) error {
		i := 0
		for ; i+insertRows <= len(entries); i += insertRows {
			if err := place(t, insertMany, entries[i:i+insertRows], placements[i:]); err != nil {
				return err
			}
		}
		for ; i < len(entries); i++ {
			if err := place(t, insertOne, entries[i:i+1], placements[i:]); err != nil {
				return err
			}
		}
		return supersede(t, entries)
	})
	if err != nil {
		return nil, fmt.Errorf("write inbox: %w", err)
	}
	return placements, nil
}

// place inserts entries by the statement insert, which has room for exactly as
// many, and notes where each stands.
func place(t *tx, insert string, entries []store.InboxEntry, placements []store.Placement) error {
	args := make([]any, 0, 5*len(entries))
	for i := range entries {
		args = append(args, entryArgs(&entries[i])...)
		placements[i] = store.Placement{Offset: entries[i].Offset}
	}
	n, err := t.exec(insert, args...)
	if err != nil || n == len(entries) {
		return err
	}
	for i, e := range entries { // some were there, and the statement does not say which
		var offset int64
		err := t.row(`SELECT offset FROM inbox WHERE message = ? AND channel = ?`,
			[]any{string(e.Message), string(e.Channel)}, &offset)
		switch {
		case missing(err):
			placements[i].Taken = true
		case err != nil:
			return err
		default:
			placements[i].Offset = push.Offset(offset)
		}
	}
	return nil
}

func entryArgs(e *store.InboxEntry) []any {
	var collapse any // NULL keeps it out of the index
	if e.CollapseKey != "" {
		collapse = e.CollapseKey
	}
	return []any{string(e.Channel), stored(e.Offset), string(e.Message), collapse, millis(e.ExpiresAt)}
}

// supersede marks, for every collapse key among entries, all but its newest
// entry in the channel. The newest is never marked, so looking at unmarked
// entries finds it, whatever the order of writes.
func supersede(t *tx, entries []store.InboxEntry) error {
	type slot struct{ channel, key string }
	var seen map[slot]bool
	for i := range entries {
		at := slot{string(entries[i].Channel), entries[i].CollapseKey}
		if at.key == "" || seen[at] {
			continue
		}
		if seen == nil {
			seen = make(map[slot]bool)
		}
		seen[at] = true
		_, err := t.exec(`UPDATE inbox SET superseded = 1
			WHERE channel = ?1 AND collapse = ?2 AND superseded = 0 AND offset <
				(SELECT max(offset) FROM inbox WHERE channel = ?1 AND collapse = ?2 AND superseded = 0)`, at.channel, at.key)
		if err != nil {
			return err
		}
	}
	return nil
}

// MoveInbox gives entries larger offsets; see [store.Inbox].
func (s *Store) MoveInbox(ctx context.Context, entries []store.InboxEntry) error {
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	entries = slices.Clone(entries)
	err := s.writer.do(ctx, len(entries), func(t *tx) error {
		for i := range entries {
			_, err := t.exec(`INSERT INTO inbox (channel, offset, message, collapse, expires) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT (message, channel) DO UPDATE SET offset = excluded.offset, superseded = 0
				WHERE excluded.offset > offset`, entryArgs(&entries[i])...)
			if conflict(err) {
				return fmt.Errorf("channel %s: another message holds offset %d", entries[i].Channel, entries[i].Offset)
			}
			if err != nil {
				return err
			}
		}
		return supersede(t, entries)
	})
	if err != nil {
		return fmt.Errorf("move inbox entries: %w", err)
	}
	return nil
}

// PlacedAt returns where message id stands; see [store.Inbox].
func (s *Store) PlacedAt(ctx context.Context, id push.MessageID, channels []push.Channel) (map[push.Channel]push.Offset, error) {
	placed := make(map[push.Channel]push.Offset, len(channels))
	if len(channels) == 0 {
		return placed, nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	list, err := json.Marshal(channels)
	if err != nil {
		return nil, fmt.Errorf("find message %s in inboxes: %w", id, err)
	}
	const text = `SELECT channel, offset FROM inbox
		WHERE message = ? AND channel IN (SELECT value FROM json_each(?))`
	err = s.query(ctx, text, []any{string(id), string(list)}, func(scan func(...any) error) (bool, error) {
		var channel push.Channel
		var offset int64
		if err := scan(&channel, &offset); err != nil {
			return false, err
		}
		placed[channel] = push.Offset(offset)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("find message %s in inboxes: %w", id, err)
	}
	return placed, nil
}

// ReadInbox returns one page of a channel; see [store.Inbox].
func (s *Store) ReadInbox(ctx context.Context, q store.InboxQuery) (store.InboxPage, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	q = q.WithDefaults()
	upTo := int64(math.MaxInt64)
	if q.UpTo != 0 {
		upTo = stored(q.UpTo)
	}
	// CROSS JOIN keeps the order: entries first, then the message of each.
	const text = `SELECT i.offset, ` + messageColumns + `
		FROM inbox i CROSS JOIN messages m ON m.id = i.message
		WHERE i.channel = ? AND i.offset > ? AND i.offset <= ? AND i.superseded = 0 AND i.expires > ?
		ORDER BY i.offset LIMIT ? + 0`
	args := []any{string(q.Channel), stored(q.After), upTo, millis(q.Now), int64(q.MaxEntries) + 1}

	var page store.InboxPage
	size := 0
	err := s.query(ctx, text, args, func(scan func(...any) error) (bool, error) {
		if len(page.Entries) == q.MaxEntries {
			page.More = true
			return false, nil
		}
		var offset int64
		m := new(push.Message)
		if err := scanMessage(scan, m, &offset); err != nil {
			return false, err
		}
		if size += len(m.Data); size > q.MaxBytes && len(page.Entries) > 0 {
			page.More = true
			return false, nil
		}
		page.Entries = append(page.Entries, push.Entry{Channel: q.Channel, Offset: push.Offset(offset), Message: m})
		return true, nil
	})
	if err == nil && q.TellOmitted {
		if page.More {
			upTo = stored(page.Entries[len(page.Entries)-1].Offset)
		}
		page.Omitted, err = s.omitted(ctx, q, upTo, page.Entries)
	}
	if err != nil {
		return store.InboxPage{}, fmt.Errorf("read inbox of %s: %w", q.Channel, err)
	}
	return page, nil
}

// omitted returns what a page of q with the given entries left out, up to an
// offset.
func (s *Store) omitted(ctx context.Context, q store.InboxQuery, upTo int64, given []push.Entry) ([]store.Omission, error) {
	const text = `SELECT offset, expires FROM inbox
		WHERE channel = ? AND offset > ? AND offset <= ? AND (superseded = 1 OR expires <= ?) ORDER BY offset`
	runs := store.NewOmissions(given)
	err := s.query(ctx, text, []any{string(q.Channel), stored(q.After), upTo, millis(q.Now)}, func(scan func(...any) error) (bool, error) {
		var offset, expires int64
		if err := scan(&offset, &expires); err != nil {
			return false, err
		}
		runs.Add(push.Offset(offset), moment(expires))
		return true, nil
	})
	return runs.List(), err
}

// Places returns where message id stands; see [store.Inbox].
func (s *Store) Places(ctx context.Context, id push.MessageID, channels []push.Channel) (map[push.Channel]store.Place, error) {
	places := make(map[push.Channel]store.Place, len(channels))
	if len(channels) == 0 {
		return places, nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	list, err := json.Marshal(channels)
	if err != nil {
		return nil, fmt.Errorf("find the places of message %s: %w", id, err)
	}
	const text = `SELECT channel, offset, expires, superseded FROM inbox
		WHERE message = ? AND channel IN (SELECT value FROM json_each(?))`
	err = s.query(ctx, text, []any{string(id), string(list)}, func(scan func(...any) error) (bool, error) {
		var channel push.Channel
		var offset, expires int64
		var superseded bool
		if err := scan(&channel, &offset, &expires, &superseded); err != nil {
			return false, err
		}
		places[channel] = store.Place{Offset: push.Offset(offset), ExpiresAt: moment(expires), Superseded: superseded}
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("find the places of message %s: %w", id, err)
	}
	return places, nil
}

// LastOffsets returns the largest offset of each channel; see [store.Inbox].
func (s *Store) LastOffsets(ctx context.Context, channels []push.Channel) (map[push.Channel]push.Offset, error) {
	last := make(map[push.Channel]push.Offset, len(channels))
	if len(channels) == 0 {
		return last, nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	list, err := json.Marshal(channels)
	if err != nil {
		return nil, fmt.Errorf("last offsets of %d channels: %w", len(channels), err)
	}
	// A row is returned only where there is an entry, which most who ask have not:
	// to pass one on costs more than to find that there is none.
	const text = `SELECT value, i.offset FROM json_each(?) CROSS JOIN inbox AS i
		ON i.channel = value AND i.offset = (SELECT max(offset) FROM inbox WHERE channel = value)`
	err = s.query(ctx, text, []any{string(list)}, func(scan func(...any) error) (bool, error) {
		var channel push.Channel
		var offset int64
		if err := scan(&channel, &offset); err != nil {
			return false, err
		}
		last[channel] = push.Offset(offset)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("last offsets of %d channels: %w", len(channels), err)
	}
	return last, nil
}

// stored is how an offset is kept; SQLite's integers are signed.
func stored(o push.Offset) int64 { return int64(min(o, math.MaxInt64)) }
