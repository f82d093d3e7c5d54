// Package mongostore keeps the store's contract in MongoDB 5 and later, Atlas,
// Amazon DocumentDB, and, for tests, FerretDB.
//
// It needs neither multi-document transactions nor change streams: what must
// happen together is one document, and what may be done twice is done twice.
// Writes are acknowledged by a majority, journaled; reads go to the primary.
// Concurrent writes of one kind share a round trip (see batcher).
//
// The collections, and what their _id is:
//
//	messages    the message's id
//	inbox       CHANNEL*MESSAGE, so that a move to another offset is one update
//	outbox      the message's id
//	cursors     USER*DEVICE*CHANNEL
//	spared      USER*DEVICE*CHANNEL*FIRST-LAST
//	control     "term", "epoch", "outbox" (its last sequence), and what is revoked
//	sources     the source's name
//	deliveries  SOURCE*DELIVERY
//
// No channel, user, device or source holds a '*', so joined names are unambiguous.
// Times are dates, in milliseconds; a time that is not set is left out.
package mongostore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"pushcluster/shared/batcher"
	"pushcluster/shared/store"
)

// A Config tunes a [Store]. Its zero value is good.
type Config struct {
	Timeout     time.Duration // of a call whose context ends later or never; 0: 5 s
	Connections int           // to each server at most; 0: what the URI says, else the driver's 100
	MaxUpdates  int           // updates in one command; 0: what the URI says, else 1,000
	MaxBatch    int           // documents that one shared round trip carries, unless one call has more; 0: 2,000
	MaxWaiting  int           // documents that may wait for a round trip; more are refused; 0: 100,000
}

func (c Config) withDefaults(maxUpdates int) Config {
	if c.Timeout <= 0 {
		c.Timeout = 5 * time.Second
	}
	if c.MaxUpdates <= 0 {
		c.MaxUpdates = maxUpdates
	}
	if c.MaxUpdates <= 0 {
		c.MaxUpdates = 1000
	}
	if c.MaxBatch <= 0 {
		c.MaxBatch = 2000
	}
	if c.MaxWaiting <= 0 {
		c.MaxWaiting = 100_000
	}
	return c
}

// A Store is a [store.Store] in a MongoDB database. Its methods may be called
// from several goroutines. Nothing of it runs while no call does, apart from the
// driver's own watch over its servers.
type Store struct {
	cfg        Config
	client     *mongo.Client
	db         *mongo.Database
	messages   *mongo.Collection
	inbox      *mongo.Collection
	kept       *mongo.Collection // inbox, as a majority has it
	outbox     *mongo.Collection
	cursors    *mongo.Collection
	spared     *mongo.Collection
	control    *mongo.Collection // as a majority has it
	newest     *mongo.Collection // control, as the primary has it
	sources    *mongo.Collection
	deliveries *mongo.Collection
	callbacks  *mongo.Collection

	inserting *batcher.Batcher[store.Record, store.Insertion]
	placing   *batcher.Batcher[store.InboxEntry, store.Placement]
	advancing *batcher.Batcher[store.Cursor, struct{}]
	touching  *batcher.Batcher[store.Cursor, struct{}]
	keeping   *batcher.Batcher[store.Delivery, struct{}]
}

var _ store.Store = (*Store)(nil)

// Open returns the store in the database that uri names, "pushcluster" if it
// names none. It asks no server (but DNS for mongodb+srv), so an error is one of
// the uri; errors show nothing of its user and password. Beside the driver's
// own options the uri may carry maxUpdates=N, see [Config]: FerretDB v1 needs
// 40. (DocumentDB needs the driver's retryWrites=false.) Write concern and read
// preference of the uri do not count.
func Open(uri string, cfg Config) (*Store, error) {
	target, err := parseURI(uri)
	if err != nil {
		return nil, fmt.Errorf("read the store's URL: %w", err)
	}
	cfg = cfg.withDefaults(target.maxUpdates)
	journal := true
	opts := options.Client().
		SetAppName("pushcluster").
		SetServerSelectionTimeout(cfg.Timeout).
		SetConnectTimeout(cfg.Timeout).
		ApplyURI(target.uri).
		SetWriteConcern(&writeconcern.WriteConcern{W: writeconcern.WCMajority, Journal: &journal}).
		SetReadPreference(readpref.Primary())
	if cfg.Connections > 0 {
		opts.SetMaxPoolSize(uint64(cfg.Connections))
	}
	client, err := mongo.Connect(opts)
	if err != nil {
		return nil, fmt.Errorf("read the store's URL: %w", target.redact(err))
	}

	s := &Store{cfg: cfg, client: client}
	s.use(client.Database(target.database))
	sharing := batcher.Config{MaxItems: cfg.MaxBatch, MaxWaiting: cfg.MaxWaiting}
	s.inserting = batcher.New(sharing, s.insertMessages)
	s.placing = batcher.New(sharing, s.writeInbox)
	s.advancing = batcher.New(sharing, s.advanceCursors)
	s.touching = batcher.New(sharing, s.touchCursors)
	s.keeping = batcher.New(sharing, s.putDeliveries)
	return s, nil
}

// Check returns nil if uri is one that [Open] understands. It asks nobody, so of
// mongodb+srv it does not see the options that DNS adds. Its error shows nothing
// of user and password.
func Check(uri string) error {
	target, err := parseURI(uri)
	if err != nil {
		return fmt.Errorf("read the store's URL: %w", err)
	}
	if strings.HasPrefix(uri, "mongodb+srv:") {
		return nil
	}
	if err := options.Client().ApplyURI(target.uri).Validate(); err != nil {
		return fmt.Errorf("read the store's URL: %w", target.redact(err))
	}
	return nil
}

// use points the store at a database.
func (s *Store) use(db *mongo.Database) {
	s.db = db
	s.messages = db.Collection("messages")
	s.inbox = db.Collection("inbox")
	s.kept = db.Collection("inbox", options.Collection().SetReadConcern(readconcern.Majority()))
	s.outbox = db.Collection("outbox")
	s.cursors = db.Collection("cursors")
	s.spared = db.Collection("spared")
	s.sources = db.Collection("sources")
	s.deliveries = db.Collection("deliveries")
	s.callbacks = db.Collection("callbacks")
	// A term that a failover could take back must not be acted upon.
	s.control = db.Collection("control", options.Collection().SetReadConcern(readconcern.Majority()))
	s.newest = db.Collection("control", options.Collection().SetReadConcern(readconcern.Local()))
}

// Close ends the writes under way, waits for them, and closes all connections.
func (s *Store) Close() error {
	s.inserting.Close()
	s.placing.Close()
	s.advancing.Close()
	s.touching.Close()
	s.keeping.Close()
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Timeout)
	defer cancel()
	if err := s.client.Disconnect(ctx); err != nil && classify(err) != errClosed {
		return fmt.Errorf("close the store: %w", err)
	}
	return nil
}

// share has b do items. An error for want of time or room is [store.ErrUnavailable].
func share[In, Out any](ctx context.Context, b *batcher.Batcher[In, Out], items []In) ([]Out, error) {
	out, err := b.Do(ctx, items)
	switch {
	case errors.Is(err, batcher.ErrClosed):
		return nil, errClosed
	case errors.Is(err, batcher.ErrFull), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		if !errors.Is(err, store.ErrUnavailable) {
			err = unavailable(err)
		}
		return nil, err
	}
	return out, err
}

// Ping asks the primary whether it answers.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return fmt.Errorf("ping the store: %w", err)
	}
	defer cancel()
	if err := s.client.Ping(ctx, nil); err != nil {
		return fmt.Errorf("ping the store: %w", classify(err))
	}
	return nil
}

// deadline gives ctx the store's own deadline if that is sooner. If ctx has
// ended, it returns an error instead.
func (s *Store) deadline(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, unavailable(err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	return ctx, cancel, nil
}
