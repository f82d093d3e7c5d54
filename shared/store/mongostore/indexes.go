package mongostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// An index is one that Prepare makes.
type index struct {
	collection *mongo.Collection
	keys       bson.D
	unique     bool
	sparse     bool
	ttl        time.Duration // beyond the date; 0: no TTL index
}

// clockGrace is how much longer than its time the server keeps an inbox entry.
// Its clock is not ours, and expiry by it must not take what still counts.
const clockGrace = time.Hour

// indexes serve every query of this package; explain_test.go proves it.
func (s *Store) indexes() []index {
	return []index{
		{collection: s.messages, keys: ascending("expires"), ttl: push.RepeatWindow},
		{collection: s.inbox, keys: bson.D{{Key: "channel", Value: 1}, {Key: "offset", Value: 1}}, unique: true},
		{collection: s.inbox, keys: ascending("slot"), sparse: true},
		{collection: s.inbox, keys: ascending("expires"), ttl: clockGrace},
		{collection: s.outbox, keys: bson.D{{Key: "seq", Value: 1}, {Key: "due", Value: 1}, {Key: "claimed", Value: 1}}},
		{collection: s.outbox, keys: bson.D{{Key: "channels", Value: 1}, {Key: "seq", Value: 1}}, sparse: true},
		{collection: s.outbox, keys: ascending("parked"), sparse: true},
		{collection: s.outbox, keys: ascending("until"), ttl: clockGrace},
		{collection: s.cursors, keys: bson.D{{Key: "user", Value: 1}, {Key: "device", Value: 1}, {Key: "channel", Value: 1}}},
		{collection: s.cursors, keys: bson.D{{Key: "channel", Value: 1}, {Key: "user", Value: 1}, {Key: "device", Value: 1}}},
		{collection: s.spared, keys: bson.D{{Key: "channel", Value: 1}, {Key: "user", Value: 1}, {Key: "device", Value: 1}, {Key: "last", Value: 1}}},
		{collection: s.spared, keys: ascending("expires"), ttl: push.RepeatWindow + clockGrace},
		{collection: s.control, keys: ascending("until"), ttl: clockGrace},
		{collection: s.cursors, keys: ascending("updated"), ttl: store.CursorIdle},
		{collection: s.deliveries, keys: bson.D{{Key: "source", Value: 1}, {Key: "place", Value: 1}, {Key: "size", Value: 1}}},
		{collection: s.deliveries, keys: bson.D{{Key: "source", Value: 1}, {Key: "outcome", Value: 1}, {Key: "place", Value: 1}}},
		{collection: s.deliveries, keys: ascending("until"), ttl: clockGrace},
		{collection: s.callbacks, keys: bson.D{{Key: "due", Value: 1}, {Key: "claimed", Value: 1}}, sparse: true},
		{collection: s.callbacks, keys: ascending("parked"), sparse: true},
		{collection: s.callbacks, keys: ascending("until"), ttl: clockGrace},
	}
}

// indexTime bounds the making of one index, instead of the store's own deadline:
// where the collection is large it takes longer than any call, and a server that is
// told to stop begins anew the next time.
const indexTime = 10 * time.Minute

// Prepare makes the indexes that are missing, and with them the collections, each
// within ten minutes.
// Where the server refuses TTL indexes, or has such an index with another
// lifetime, plain ones will do, and [Store.Sweep] removes what is over.
func (s *Store) Prepare(ctx context.Context) error {
	if err := s.Ping(ctx); err != nil { // that nobody is there needs no ten minutes
		return fmt.Errorf("prepare the store: %w", err)
	}
	for _, ix := range s.indexes() {
		if err := s.prepareIndex(ctx, ix); err != nil {
			return fmt.Errorf("prepare collection %s: %w", ix.collection.Name(), err)
		}
	}
	return nil
}

// prepareIndex makes one index.
func (s *Store) prepareIndex(ctx context.Context, ix index) error {
	ctx, cancel := context.WithTimeout(ctx, max(s.cfg.Timeout, indexTime))
	defer cancel()
	opts := options.Index()
	if ix.unique {
		opts.SetUnique(true)
	}
	if ix.sparse {
		opts.SetSparse(true)
	}
	if ix.ttl > 0 {
		opts.SetExpireAfterSeconds(int32(ix.ttl / time.Second))
	}
	_, err := ix.collection.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: ix.keys, Options: opts})
	if ix.ttl > 0 && refused(err) {
		_, err = ix.collection.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: ix.keys})
		if exists(err) {
			return nil
		}
	}
	return classify(err)
}

// exists reports whether err says that there is such an index already, with
// other options.
func exists(err error) bool {
	var answer mongo.ServerError
	return errors.As(err, &answer) && (answer.HasErrorCode(codeIndexExistsOther) || answer.HasErrorCode(codeIndexExistsOther2))
}
