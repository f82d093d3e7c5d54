package mongostore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A termDoc is the [push.Term] in the collection control.
type termDoc struct {
	ID      string `bson:"_id"`
	Number  int64  `bson:"number"`
	Marker  string `bson:"marker"`
	RunID   string `bson:"run_id"`
	Floor   int64  `bson:"floor"`
	Ceiling int64  `bson:"ceiling"`
}

func newTermDoc(t push.Term) termDoc {
	return termDoc{ID: "term", Number: t.Number, Marker: t.Marker, RunID: t.RunID, Floor: stored(t.Floor), Ceiling: stored(t.Ceiling)}
}

func (d *termDoc) term() push.Term {
	return push.Term{Number: d.Number, Marker: d.Marker, RunID: d.RunID, Floor: push.Offset(d.Floor), Ceiling: push.Offset(d.Ceiling)}
}

// Term returns the newest term; see [store.Control].
func (s *Store) Term(ctx context.Context) (push.Term, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return push.Term{}, fmt.Errorf("read the term: %w", err)
	}
	defer cancel()
	var d termDoc
	err = s.control.FindOne(ctx, bson.D{{Key: "_id", Value: "term"}}).Decode(&d)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return push.Term{}, nil
	}
	if err != nil {
		return push.Term{}, fmt.Errorf("read the term: %w", classify(err))
	}
	return d.term(), nil
}

// TermLasts reports whether the newest term has marker; see [store.Control]. It asks
// for what the primary has now, be it with a majority or not: a primary has all that
// was written before it became one, while what a majority is known to have may lag
// behind this process' own writes for a moment after an election. A later term that
// a failover then takes back costs no more than another try.
func (s *Store) TermLasts(ctx context.Context, marker string) (bool, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return false, fmt.Errorf("compare the term: %w", err)
	}
	defer cancel()
	var d termDoc
	err = s.newest.FindOne(ctx, bson.D{{Key: "_id", Value: "term"}}, options.FindOne().SetProjection(only("marker"))).Decode(&d)
	if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
		return false, fmt.Errorf("compare the term: %w", classify(err))
	}
	return err == nil && d.Marker == marker, nil
}

// SwapTerm replaces the term; see [store.Control].
func (s *Store) SwapTerm(ctx context.Context, old, next push.Term) (bool, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return false, fmt.Errorf("swap the term: %w", err)
	}
	defer cancel()
	if old == (push.Term{}) {
		_, err := s.control.InsertOne(ctx, newTermDoc(next))
		if mongo.IsDuplicateKeyError(err) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("swap the term: %w", classify(err))
		}
		return true, nil
	}
	result, err := s.control.ReplaceOne(ctx, newTermDoc(old), newTermDoc(next)) // old matches in every field
	if err != nil {
		return false, fmt.Errorf("swap the term: %w", classify(err))
	}
	return result.MatchedCount == 1, nil
}

// An epochDoc is the name of this store's life in the collection control.
type epochDoc struct {
	ID   string `bson:"_id"`
	Name string `bson:"name"`
}

// Epoch returns the name of this store's life; see [store.Control].
func (s *Store) Epoch(ctx context.Context) (string, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return "", fmt.Errorf("read the epoch: %w", err)
	}
	defer cancel()
	find := func() (d epochDoc, err error) {
		err = s.control.FindOne(ctx, bson.D{{Key: "_id", Value: "epoch"}}).Decode(&d)
		return d, err
	}
	d, err := find()
	if errors.Is(err, mongo.ErrNoDocuments) {
		d = epochDoc{ID: "epoch", Name: rand.Text()}
		_, err = s.control.InsertOne(ctx, d)
		if mongo.IsDuplicateKeyError(err) { // another process was faster
			d, err = find()
		}
	}
	if err != nil {
		return "", fmt.Errorf("read the epoch: %w", classify(err))
	}
	return d.Name, nil
}

// sweepDocs is how many documents one step of a sweep removes.
const sweepDocs = 1000

// Sweep removes what has outlived its time; see [store.Store]. It works in
// small steps, each with the store's own deadline; ctx bounds the whole.
func (s *Store) Sweep(ctx context.Context, now time.Time) (int, error) {
	swept := 0
	for _, over := range []struct {
		collection *mongo.Collection
		filter     bson.D
	}{
		{s.inbox, until("expires", now)},
		{s.messages, until("expires", now.Add(-push.RepeatWindow))},
		{s.cursors, until("updated", now.Add(-store.CursorIdle))},
		{s.outbox, until("until", now)},
		{s.spared, until("expires", now.Add(-push.RepeatWindow))},
		{s.control, until("until", now)},
		{s.deliveries, until("until", now)},
		{s.callbacks, until("until", now)},
	} {
		for {
			n, err := s.sweepStep(ctx, over.collection, over.filter)
			swept += n
			if err != nil {
				return swept, fmt.Errorf("sweep %s: %w", over.collection.Name(), err)
			}
			if n < sweepDocs {
				break
			}
		}
	}
	return swept, nil
}

// sweepStep removes some documents that filter matches, if they still do when
// they go: a cursor may have moved meanwhile.
func (s *Store) sweepStep(ctx context.Context, c *mongo.Collection, filter bson.D) (int, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return 0, err
	}
	defer cancel()
	type id struct {
		ID string `bson:"_id"`
	}
	found, err := findAll[id](ctx, c, filter, options.Find().SetLimit(sweepDocs).SetProjection(bson.D{{Key: "_id", Value: 1}}))
	if err != nil || len(found) == 0 {
		return 0, err
	}
	ids := make([]string, len(found))
	for i := range found {
		ids[i] = found[i].ID
	}
	result, err := c.DeleteMany(ctx, append(in("_id", ids), filter...))
	if err != nil {
		return 0, classify(err)
	}
	return int(result.DeletedCount), nil
}
