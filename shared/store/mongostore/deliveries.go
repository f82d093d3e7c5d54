package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A deliveryDoc is a [store.Delivery] in the collection deliveries.
type deliveryDoc struct {
	ID       string        `bson:"_id"`
	Source   string        `bson:"source"`
	Place    string        `bson:"place"` // the time it was received and its id: see placeKey
	Last     bson.DateTime `bson:"last"`
	Until    bson.DateTime `bson:"until"`
	Receipts int           `bson:"receipts"`
	Replays  int           `bson:"replays"`
	Outcome  string        `bson:"outcome"`
	Settled  bool          `bson:"settled"`
	Size     int64         `bson:"size"`
	Detail   []byte        `bson:"detail,omitempty"`
	Body     []byte        `bson:"body,omitempty"`
}

// deliveryID is the _id of a delivery. No source's name holds a '*'.
func deliveryID(source, id string) string { return source + "*" + id }

// placeKey is a place in one field, and so in one index.
func placeKey(p store.DeliveryPlace) string { return parkedKey(p.At, push.MessageID(p.ID)) }

func newDeliveryDoc(d *store.Delivery) deliveryDoc {
	return deliveryDoc{
		ID: deliveryID(d.Source, d.ID), Source: d.Source, Place: placeKey(d.Place()), Last: date(d.ReceivedAt), Until: date(d.Until),
		Receipts: 1, Outcome: d.Outcome, Settled: d.Settled, Size: d.Size(), Detail: d.Detail, Body: d.Body,
	}
}

func (d *deliveryDoc) delivery() store.Delivery {
	_, id, _ := strings.Cut(d.ID, "*")
	return store.Delivery{
		Source: d.Source, ID: id, ReceivedAt: parkedAt(d.Place), LastAt: moment(d.Last), Until: moment(d.Until),
		Receipts: d.Receipts, Replays: d.Replays, Outcome: d.Outcome, Settled: d.Settled, Detail: d.Detail, Body: d.Body,
	}
}

// PutDeliveries keeps deliveries; see [store.Deliveries].
func (s *Store) PutDeliveries(ctx context.Context, records []store.Delivery) error {
	if len(records) == 0 {
		return nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return fmt.Errorf("keep deliveries: %w", err)
	}
	defer cancel()
	if _, err := share(ctx, s.keeping, records); err != nil {
		return fmt.Errorf("keep deliveries: %w", err)
	}
	return nil
}

// putDeliveries is PutDeliveries for the records of several calls: one insertion,
// and one more round trip where some of them came before.
func (s *Store) putDeliveries(ctx context.Context, records []store.Delivery) ([]struct{}, error) {
	documents := make([]deliveryDoc, len(records))
	for i := range records {
		documents[i] = newDeliveryDoc(&records[i])
	}
	repeats, err := insert(ctx, s.deliveries, documents)
	if err != nil {
		return nil, err
	}
	var updates []mongo.WriteModel
	for _, i := range repeats {
		updates = append(updates, repeated(&documents[i])...)
	}
	for part := range slices.Chunk(updates, max(2, s.cfg.MaxUpdates/2*2)) {
		// In order: of the two updates of a record only one finds it.
		if _, err := s.deliveries.BulkWrite(ctx, part, options.BulkWrite().SetOrdered(true)); err != nil {
			return nil, classify(err)
		}
	}
	return make([]struct{}, len(records)), nil
}

// repeated are the updates for a delivery that is kept already: it is counted if
// it is settled, else replaced.
func repeated(d *deliveryDoc) []mongo.WriteModel {
	count := bson.E{Key: "$inc", Value: bson.D{{Key: "receipts", Value: 1}}}
	return []mongo.WriteModel{
		mongo.NewUpdateOneModel().SetFilter(bson.D{{Key: "_id", Value: d.ID}, {Key: "settled", Value: true}}).
			SetUpdate(bson.D{count, {Key: "$set", Value: bson.D{{Key: "last", Value: d.Last}}}}),
		mongo.NewUpdateOneModel().SetFilter(bson.D{{Key: "_id", Value: d.ID}, {Key: "settled", Value: false}}).
			SetUpdate(bson.D{count, {Key: "$set", Value: bson.D{
				{Key: "place", Value: d.Place}, {Key: "last", Value: d.Last}, {Key: "until", Value: d.Until},
				{Key: "outcome", Value: d.Outcome}, {Key: "settled", Value: d.Settled}, {Key: "size", Value: d.Size},
				{Key: "detail", Value: d.Detail}, {Key: "body", Value: d.Body},
			}}}),
	}
}

// ListDeliveries returns deliveries by place; see [store.Deliveries].
func (s *Store) ListDeliveries(ctx context.Context, q store.DeliveriesQuery) ([]store.Delivery, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("list deliveries of source %s: %w", q.Source, err)
	}
	defer cancel()
	if q.Limit <= 0 {
		q.Limit = store.DefaultDeliveries
	}
	opts := options.Find().SetSort(ascending("place")).SetLimit(int64(q.Limit))
	if q.Newest {
		opts.SetSort(descending("place"))
	}
	if !q.Bodies {
		opts.SetProjection(bson.D{{Key: "body", Value: 0}})
	}
	found, err := findAll[deliveryDoc](ctx, s.deliveries, deliveriesBetween(q), opts)
	if err != nil {
		return nil, fmt.Errorf("list deliveries of source %s: %w", q.Source, err)
	}
	list := make([]store.Delivery, len(found))
	for i := range found {
		list[i] = found[i].delivery()
	}
	return list, nil
}

// deliveriesBetween matches what q asks for.
func deliveriesBetween(q store.DeliveriesQuery) bson.D {
	filter := bson.D{{Key: "source", Value: q.Source}}
	if q.Outcome != "" {
		filter = append(filter, bson.E{Key: "outcome", Value: q.Outcome})
	}
	var places bson.D
	if !q.After.IsZero() {
		places = append(places, bson.E{Key: "$gt", Value: placeKey(q.After)})
	}
	if !q.Before.IsZero() {
		places = append(places, bson.E{Key: "$lt", Value: placeKey(q.Before)})
	}
	if places != nil {
		filter = append(filter, bson.E{Key: "place", Value: places})
	}
	return filter
}

// LoadDelivery returns one delivery; see [store.Deliveries].
func (s *Store) LoadDelivery(ctx context.Context, source, id string) (store.Delivery, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return store.Delivery{}, fmt.Errorf("load delivery %q of source %s: %w", id, source, err)
	}
	defer cancel()
	var d deliveryDoc
	err = s.deliveries.FindOne(ctx, bson.D{{Key: "_id", Value: deliveryID(source, id)}}).Decode(&d)
	if err != nil {
		return store.Delivery{}, fmt.Errorf("load delivery %q of source %s: %w", id, source, notFound(err))
	}
	return d.delivery(), nil
}

// JudgeDeliveries changes what deliveries came to; see [store.Deliveries].
func (s *Store) JudgeDeliveries(ctx context.Context, records []store.Delivery) error {
	if len(records) == 0 {
		return nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return fmt.Errorf("judge deliveries: %w", err)
	}
	defer cancel()
	var updates []mongo.WriteModel
	for _, d := range records {
		updates = append(updates, mongo.NewUpdateOneModel().SetFilter(bson.D{{Key: "_id", Value: deliveryID(d.Source, d.ID)}}).
			SetUpdate(bson.D{{Key: "$set", Value: bson.D{
				{Key: "outcome", Value: d.Outcome}, {Key: "settled", Value: d.Settled}, {Key: "detail", Value: d.Detail},
			}}}))
	}
	if err := s.update(ctx, s.deliveries, updates); err != nil {
		return fmt.Errorf("judge deliveries: %w", classify(err))
	}
	return nil
}

// CountReplay counts a replay; see [store.Deliveries].
func (s *Store) CountReplay(ctx context.Context, source, id string) (int, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return 0, fmt.Errorf("count a replay of delivery %q of source %s: %w", id, source, err)
	}
	defer cancel()
	var d deliveryDoc
	err = s.deliveries.FindOneAndUpdate(ctx, bson.D{{Key: "_id", Value: deliveryID(source, id)}},
		bson.D{{Key: "$inc", Value: bson.D{{Key: "replays", Value: 1}}}},
		options.FindOneAndUpdate().SetReturnDocument(options.After)).Decode(&d) // all of it: FerretDB knows no projection here
	if err != nil {
		return 0, fmt.Errorf("count a replay of delivery %q of source %s: %w", id, source, notFound(err))
	}
	return d.Replays, nil
}

// TrimDeliveries removes the oldest deliveries; see [store.Deliveries]. It looks
// at an index alone, newest first, until there are too many.
func (s *Store) TrimDeliveries(ctx context.Context, source string, most int, size int64) (int, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return 0, fmt.Errorf("trim deliveries of source %s: %w", source, err)
	}
	defer cancel()
	removed, err := s.trimDeliveries(ctx, source, most, size)
	if err != nil {
		return 0, fmt.Errorf("trim deliveries of source %s: %w", source, classify(err))
	}
	return removed, nil
}

func (s *Store) trimDeliveries(ctx context.Context, source string, most int, size int64) (int, error) {
	cursor, err := s.deliveries.Find(ctx, bson.D{{Key: "source", Value: source}}, options.Find().SetSort(descending("place")).
		SetProjection(bson.D{{Key: "_id", Value: 0}, {Key: "place", Value: 1}, {Key: "size", Value: 1}}))
	if err != nil {
		return 0, err
	}
	defer cursor.Close(ctx)
	for cursor.Next(ctx) {
		var d deliveryDoc
		if err := cursor.Decode(&d); err != nil {
			return 0, err
		}
		most, size = most-1, size-d.Size
		if most < 0 || size < 0 {
			result, err := s.deliveries.DeleteMany(ctx, deliveriesUpTo(source, d.Place))
			if err != nil {
				return 0, err
			}
			return int(result.DeletedCount), nil
		}
	}
	return 0, cursor.Err()
}

// deliveriesUpTo matches the oldest deliveries of a source.
func deliveriesUpTo(source, place string) bson.D {
	return bson.D{{Key: "source", Value: source}, {Key: "place", Value: bson.D{{Key: "$lte", Value: place}}}}
}

// notFound returns err as [store.ErrNotFound] if it says that there is no such
// document.
func notFound(err error) error {
	if errors.Is(err, mongo.ErrNoDocuments) {
		return store.ErrNotFound
	}
	return classify(err)
}
