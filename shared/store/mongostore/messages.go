package mongostore

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A messageDoc is a [store.Record] in the collection messages.
type messageDoc struct {
	ID          string        `bson:"_id"`
	Fingerprint string        `bson:"fingerprint"`
	Created     bson.DateTime `bson:"created,omitempty"`
	Expires     bson.DateTime `bson:"expires,omitempty"`
	Deliver     bson.DateTime `bson:"deliver,omitempty"`
	Event       string        `bson:"event,omitempty"`
	CollapseKey string        `bson:"collapse,omitempty"`
	Trace       string        `bson:"trace,omitempty"`
	Data        []byte        `bson:"data,omitempty"` // as bytes, because BSON does not keep every JSON value as it was
	To          recipientsDoc `bson:"to"`
}

// A recipientsDoc is a [push.Recipients].
type recipientsDoc struct {
	Users    []push.UserID  `bson:"users,omitempty"`
	Channels []push.Channel `bson:"channels,omitempty"`
	All      bool           `bson:"all,omitempty"`
}

func newMessageDoc(r *store.Record) messageDoc {
	return messageDoc{
		ID: string(r.ID), Fingerprint: r.Fingerprint,
		Created: date(r.CreatedAt), Expires: date(r.ExpiresAt), Deliver: date(r.DeliverAt),
		Event: r.Event, CollapseKey: r.CollapseKey, Trace: r.Trace, Data: r.Data, To: recipientsDoc(r.To),
	}
}

func (d *messageDoc) message() push.Message {
	return push.Message{
		ID: push.MessageID(d.ID), To: push.Recipients(d.To), Event: d.Event, Data: d.Data, CollapseKey: d.CollapseKey,
		CreatedAt: moment(d.Created), ExpiresAt: moment(d.Expires), DeliverAt: moment(d.Deliver), Trace: d.Trace,
	}
}

// InsertMessages stores records; see [store.Messages].
func (s *Store) InsertMessages(ctx context.Context, records []store.Record) ([]store.Insertion, error) {
	if len(records) == 0 {
		return nil, nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("insert messages: %w", err)
	}
	defer cancel()
	insertions, err := share(ctx, s.inserting, records)
	if err != nil {
		return nil, fmt.Errorf("insert messages: %w", err)
	}
	return insertions, nil
}

// insertMessages is InsertMessages for the records of several calls.
func (s *Store) insertMessages(ctx context.Context, records []store.Record) ([]store.Insertion, error) {
	documents := make([]messageDoc, 0, len(records))
	place := make(map[push.MessageID]int, len(records)) // in documents: of several records with one id the first counts
	for i := range records {
		if _, twice := place[records[i].ID]; !twice {
			place[records[i].ID] = len(documents)
			documents = append(documents, newMessageDoc(&records[i]))
		}
	}
	repeats, err := insert(ctx, s.messages, documents)
	if err != nil {
		return nil, err
	}

	// What was there before is described by itself.
	was := make(map[int]bool, len(repeats))
	var ids []string
	for _, i := range repeats {
		was[i] = true
		ids = append(ids, documents[i].ID)
	}
	kept, err := findIn[messageDoc](ctx, s.messages, "_id", ids, options.Find().SetProjection(only("fingerprint", "created")))
	if err != nil {
		return nil, err
	}
	for _, d := range kept {
		i := place[push.MessageID(d.ID)]
		documents[i].Fingerprint, documents[i].Created = d.Fingerprint, d.Created
	}

	insertions := make([]store.Insertion, len(records))
	for n := range records {
		i := place[records[n].ID]
		d := &documents[i]
		insertions[n] = store.Insertion{Repeat: was[i], Fingerprint: d.Fingerprint, CreatedAt: moment(d.Created)}
		was[i] = true
	}
	return insertions, nil
}

// LoadMessages returns the records of ids; see [store.Messages].
func (s *Store) LoadMessages(ctx context.Context, ids []push.MessageID) (map[push.MessageID]store.Record, error) {
	records := make(map[push.MessageID]store.Record, len(ids))
	if len(ids) == 0 {
		return records, nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("load messages: %w", err)
	}
	defer cancel()
	found, err := findIn[messageDoc](ctx, s.messages, "_id", texts(ids), options.Find())
	if err != nil {
		return nil, fmt.Errorf("load messages: %w", err)
	}
	for i := range found {
		m := found[i].message()
		records[m.ID] = store.Record{Message: m, Fingerprint: found[i].Fingerprint}
	}
	return records, nil
}

// texts returns names as plain strings.
func texts[T ~string](names []T) []string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = string(n)
	}
	return list
}
