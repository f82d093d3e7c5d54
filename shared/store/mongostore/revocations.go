package mongostore

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A revocationDoc is a [push.Revocation] in the collection control, which holds
// nothing else that ends.
type revocationDoc struct {
	ID    string        `bson:"_id"`
	User  string        `bson:"user,omitempty"`
	Token string        `bson:"token,omitempty"`
	At    bson.DateTime `bson:"at"`
	Until bson.DateTime `bson:"until"`
}

// AddRevocation keeps a revocation; see [store.Control].
func (s *Store) AddRevocation(ctx context.Context, r push.Revocation, now time.Time, most int) error {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return fmt.Errorf("keep a revocation: %w", err)
	}
	defer cancel()
	d := revocationDoc{ID: "revoked user " + string(r.User), User: string(r.User), At: date(r.At), Until: date(r.Until)}
	if r.User == "" {
		d.ID, d.Token = "revoked token "+r.TokenID, r.TokenID
	}
	if err := s.roomForRevocation(ctx, d.ID, now, most); err != nil {
		return fmt.Errorf("keep a revocation: %w", err)
	}
	made := bson.D{{Key: "user", Value: d.User}, {Key: "token", Value: d.Token}}
	for range upsertTries {
		_, err = s.control.UpdateOne(ctx, bson.D{{Key: "_id", Value: d.ID}}, bson.D{
			{Key: "$max", Value: bson.D{{Key: "at", Value: d.At}, {Key: "until", Value: d.Until}}},
			{Key: "$setOnInsert", Value: made},
		}, options.UpdateOne().SetUpsert(true))
		if !mongo.IsDuplicateKeyError(err) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("keep a revocation: %w", classify(err))
	}
	return nil
}

// roomForRevocation returns [store.ErrFull] if there are most others. Several
// that are added at this moment may together be a few more.
func (s *Store) roomForRevocation(ctx context.Context, id string, now time.Time, most int) error {
	found, err := findAll[revocationDoc](ctx, s.control, revokedAt(now),
		options.Find().SetLimit(int64(most)+1).SetProjection(bson.D{{Key: "_id", Value: 1}}))
	if err != nil {
		return err
	}
	others := 0
	for _, d := range found {
		if d.ID != id {
			others++
		}
	}
	if others >= most {
		return store.ErrFull
	}
	return nil
}

// ListRevocations returns what is revoked at now; see [store.Control].
func (s *Store) ListRevocations(ctx context.Context, now time.Time) ([]push.Revocation, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("list revocations: %w", err)
	}
	defer cancel()
	found, err := findAll[revocationDoc](ctx, s.control, revokedAt(now), options.Find())
	if err != nil {
		return nil, fmt.Errorf("list revocations: %w", err)
	}
	list := make([]push.Revocation, len(found))
	for i, d := range found {
		list[i] = push.Revocation{User: push.UserID(d.User), TokenID: d.Token, At: moment(d.At), Until: moment(d.Until)}
	}
	return list, nil
}
