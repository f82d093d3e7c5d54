package mongostore

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"pushcluster/shared/store"
)

// A sourceDoc is a [store.SourceRecord] in the collection sources.
type sourceDoc struct {
	Name       string        `bson:"_id"`
	Definition []byte        `bson:"definition"`
	Updated    bson.DateTime `bson:"updated"`
}

// PutSource keeps a source; see [store.Sources]. Several that are put at the
// same moment may together be a few more than most.
func (s *Store) PutSource(ctx context.Context, r store.SourceRecord, most int) error {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return fmt.Errorf("keep source %q: %w", r.Name, err)
	}
	defer cancel()
	found, err := findAll[sourceDoc](ctx, s.sources, otherSources(r.Name),
		options.Find().SetLimit(int64(most)).SetProjection(bson.D{{Key: "_id", Value: 1}}))
	if err == nil && len(found) >= most {
		err = store.ErrFull
	}
	if err != nil {
		return fmt.Errorf("keep source %q: %w", r.Name, err)
	}
	d := sourceDoc{Name: r.Name, Definition: r.Definition, Updated: date(r.UpdatedAt)}
	for range upsertTries {
		_, err = s.sources.ReplaceOne(ctx, bson.D{{Key: "_id", Value: r.Name}}, d, options.Replace().SetUpsert(true))
		if !mongo.IsDuplicateKeyError(err) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("keep source %q: %w", r.Name, classify(err))
	}
	return nil
}

// ListSources returns all sources; see [store.Sources].
func (s *Store) ListSources(ctx context.Context) ([]store.SourceRecord, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("list sources: %w", err)
	}
	defer cancel()
	found, err := findAll[sourceDoc](ctx, s.sources, otherSources(""), options.Find().SetSort(ascending("_id")))
	if err != nil {
		return nil, fmt.Errorf("list sources: %w", err)
	}
	list := make([]store.SourceRecord, len(found))
	for i, d := range found {
		list[i] = store.SourceRecord{Name: d.Name, Definition: d.Definition, UpdatedAt: moment(d.Updated)}
	}
	return list, nil
}

// RemoveSource removes a source; see [store.Sources].
func (s *Store) RemoveSource(ctx context.Context, name string) (bool, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return false, fmt.Errorf("remove source %q: %w", name, err)
	}
	defer cancel()
	result, err := s.sources.DeleteOne(ctx, bson.D{{Key: "_id", Value: name}})
	if err != nil {
		return false, fmt.Errorf("remove source %q: %w", name, classify(err))
	}
	return result.DeletedCount > 0, nil
}

// otherSources matches all sources but that of name, by the index of names.
func otherSources(name string) bson.D {
	if name == "" {
		return bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: ""}}}}
	}
	return bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: ""}, {Key: "$ne", Value: name}}}}
}
