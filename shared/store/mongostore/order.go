package mongostore

import (
	"context"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A sequenceDoc is the last number of the outbox' order in the collection
// control.
type sequenceDoc struct {
	ID   string `bson:"_id"`
	Last int64  `bson:"last"`
}

// sequences takes n numbers of the outbox' order, each used at most once in the
// life of the database, and returns the first.
func (s *Store) sequences(ctx context.Context, n int) (int64, error) {
	if n == 0 {
		return 0, nil
	}
	next := func() (d sequenceDoc, err error) {
		err = s.control.FindOneAndUpdate(ctx, bson.D{{Key: "_id", Value: "outbox"}},
			bson.D{{Key: "$inc", Value: bson.D{{Key: "last", Value: int64(n)}}}},
			options.FindOneAndUpdate().SetUpsert(true).SetReturnDocument(options.After)).Decode(&d)
		return d, err
	}
	d, err := next()
	if mongo.IsDuplicateKeyError(err) { // another process made the first one
		d, err = next()
	}
	if err != nil {
		return 0, classify(err)
	}
	return d.Last - int64(n) + 1, nil
}

// AnyBacklog looks for any ordered entry that waits; see [store.Outbox].
func (s *Store) AnyBacklog(ctx context.Context) (bool, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return false, fmt.Errorf("look for a backlog: %w", err)
	}
	defer cancel()
	found, err := s.anyInLine(ctx, inLine(0))
	if err != nil {
		return false, fmt.Errorf("look for a backlog: %w", err)
	}
	return found, nil
}

func (s *Store) anyInLine(ctx context.Context, filter bson.D) (bool, error) {
	found, err := findAll[outboxDoc](ctx, s.outbox, filter, options.Find().SetLimit(1).SetProjection(only("_id")))
	return len(found) > 0, err
}

// backlogPage is how many entries Backlog reads at once. Each page tells of one
// channel at least, mostly of as many as it has entries.
const backlogPage = 200

// Backlog returns the channels that an entry waits for; see [store.Outbox].
func (s *Store) Backlog(ctx context.Context, channels []push.Channel) (map[push.Channel]bool, error) {
	backlog := make(map[push.Channel]bool)
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for a backlog: %w", err)
	}
	defer cancel()
	for part := range slices.Chunk(texts(channels), maxIDs) {
		for len(part) > 0 {
			found, err := findAll[outboxDoc](ctx, s.outbox, append(in("channels", part), inLine(0)...),
				options.Find().SetLimit(backlogPage).SetProjection(only("channels")))
			if err != nil {
				return nil, fmt.Errorf("look for a backlog: %w", err)
			}
			waits := make(map[string]bool)
			for i := range found {
				for _, c := range found[i].Channels {
					waits[c] = true
				}
			}
			var rest []string
			for _, c := range part {
				if waits[c] {
					backlog[push.Channel(c)] = true
				} else {
					rest = append(rest, c)
				}
			}
			if len(found) < backlogPage {
				break
			}
			part = rest
		}
	}
	return backlog, nil
}

// Ahead returns what entries have to wait for; see [store.Outbox].
func (s *Store) Ahead(ctx context.Context, entries []store.OutboxEntry) (map[push.Channel]store.Ahead, error) {
	ahead := make(map[push.Channel]store.Ahead)
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("look ahead in the outbox: %w", err)
	}
	defer cancel()
	order := store.OrderOf(entries)
	if order.Largest == 0 {
		return ahead, nil
	}
	others := inLine(order.Largest, order.Sequences...)
	// Where one claimant works through a backlog there is nobody else, mostly.
	if found, err := s.anyInLine(ctx, others); err != nil {
		return nil, fmt.Errorf("look ahead in the outbox: %w", err)
	} else if !found {
		return ahead, nil
	}
	asked := make(map[push.Channel]bool)
	channels := order.Channels()
	for _, c := range channels {
		asked[c] = true
	}
	for part := range slices.Chunk(texts(channels), maxIDs) {
		found, err := findAll[outboxDoc](ctx, s.outbox, append(in("channels", part), others...),
			options.Find().SetProjection(only("channels", "seq", "due")))
		if err != nil {
			return nil, fmt.Errorf("look ahead in the outbox: %w", err)
		}
		for i := range found {
			e := found[i].entry()
			for _, c := range e.Channels {
				if a, ok := ahead[c]; asked[c] && (!ok || e.Sequence < a.Sequence) {
					ahead[c] = store.Ahead{Sequence: e.Sequence, DueAt: e.DueAt}
				}
			}
		}
	}
	return ahead, nil
}
