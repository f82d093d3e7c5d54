package mongostore

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Drop removes the store's database.
func (s *Store) Drop(ctx context.Context) error { return s.db.Drop(ctx) }

// IsFerretDB reports whether the server is FerretDB.
func (s *Store) IsFerretDB(ctx context.Context) (bool, error) {
	var info bson.M
	err := s.db.RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Decode(&info)
	_, ferret := info["ferretdbVersion"]
	return ferret, err
}
