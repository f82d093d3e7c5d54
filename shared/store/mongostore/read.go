package mongostore

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// Bounds of how many messages are loaded at once: the first load is a guess,
// later ones go by the size of those before.
const (
	firstLoad   = 64
	largestLoad = 1000
)

// ReadInbox returns one page of a channel; see [store.Inbox].
func (s *Store) ReadInbox(ctx context.Context, q store.InboxQuery) (store.InboxPage, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return store.InboxPage{}, fmt.Errorf("read inbox of %s: %w", q.Channel, err)
	}
	defer cancel()
	p := pageReader{store: s, q: q.WithDefaults()}
	for !p.ended && !p.page.More {
		if err := p.read(ctx); err != nil {
			return store.InboxPage{}, fmt.Errorf("read inbox of %s: %w", q.Channel, err)
		}
	}
	if q.TellOmitted {
		if p.page.Omitted, err = s.omitted(ctx, q, p.page); err != nil {
			return store.InboxPage{}, fmt.Errorf("read inbox of %s: %w", q.Channel, err)
		}
	}
	return p.page, nil
}

// omitted returns what page, which q asked for, left out.
func (s *Store) omitted(ctx context.Context, q store.InboxQuery, page store.InboxPage) ([]store.Omission, error) {
	upTo := q.UpTo
	if page.More {
		upTo = page.Entries[len(page.Entries)-1].Offset
	}
	cursor, err := s.inbox.Find(ctx, omittedEntries(q, upTo),
		options.Find().SetSort(ascending("offset")).SetProjection(only("offset", "expires")))
	if err != nil {
		return nil, classify(err)
	}
	defer cursor.Close(ctx)
	runs := store.NewOmissions(page.Entries)
	for cursor.Next(ctx) {
		var d entryDoc
		if err := cursor.Decode(&d); err != nil {
			return nil, classify(err)
		}
		runs.Add(push.Offset(d.Offset), moment(d.Expires))
	}
	return runs.List(), classify(cursor.Err())
}

// A pageReader fills one page.
type pageReader struct {
	store *Store
	q     store.InboxQuery // After moves on with what was read
	page  store.InboxPage
	size  int  // bytes of data in page
	ended bool // no entries are left
}

// read adds the next run of entries to the page: one more than it has room for,
// because that tells whether there are more.
func (p *pageReader) read(ctx context.Context) error {
	want := p.q.MaxEntries - len(p.page.Entries) + 1
	run, err := findAll[entryDoc](ctx, p.store.inbox, unexpiredEntries(p.q),
		options.Find().SetSort(ascending("offset")).SetLimit(int64(want)).SetProjection(only("offset", "message")))
	if err != nil {
		return err
	}
	p.ended = len(run) < want
	for len(run) > 0 && !p.page.More {
		n := min(len(run), p.nextLoad())
		if err := p.add(ctx, run[:n]); err != nil {
			return err
		}
		p.q.After = push.Offset(run[n-1].Offset)
		run = run[n:]
	}
	return nil
}

// nextLoad guesses how many messages the page still has room for.
func (p *pageReader) nextLoad() int {
	if len(p.page.Entries) == 0 {
		return firstLoad
	}
	average := p.size/len(p.page.Entries) + 1
	return min(max((p.q.MaxBytes-p.size)/average+1, firstLoad), largestLoad)
}

// add loads the messages of entries and adds them until the page is full.
func (p *pageReader) add(ctx context.Context, entries []entryDoc) error {
	ids := make([]string, len(entries))
	for i := range entries {
		ids[i] = entries[i].Message
	}
	found, err := findIn[messageDoc](ctx, p.store.messages, "_id", ids,
		options.Find().SetProjection(bson.D{{Key: "to", Value: 0}, {Key: "fingerprint", Value: 0}}))
	if err != nil {
		return err
	}
	messages := make(map[string]*messageDoc, len(found))
	for i := range found {
		messages[found[i].ID] = &found[i]
	}
	for i := range entries {
		d, ok := messages[entries[i].Message]
		if !ok {
			continue
		}
		if n := len(p.page.Entries); n == p.q.MaxEntries || n > 0 && p.size+len(d.Data) > p.q.MaxBytes {
			p.page.More = true
			return nil
		}
		m := d.message()
		p.size += len(d.Data)
		p.page.Entries = append(p.page.Entries, push.Entry{Channel: p.q.Channel, Offset: push.Offset(entries[i].Offset), Message: &m})
	}
	return nil
}
