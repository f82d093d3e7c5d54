package mongostore

import (
	"context"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// maxIDs is how many values one query names at most.
const maxIDs = 2000

// in matches documents whose field is one of values. Of one value it is plain
// equality, for which servers have a shorter way.
func in(field string, values []string) bson.D {
	if len(values) == 1 {
		return bson.D{{Key: field, Value: values[0]}}
	}
	return bson.D{{Key: field, Value: bson.D{{Key: "$in", Value: values}}}}
}

// lastOfEach is the aggregation that returns each channel's last entry. Its order
// is that of the index of channels and offsets, backwards, so that a server need
// look at one entry of each.
func lastOfEach(channels []string) bson.A {
	return bson.A{
		bson.D{{Key: "$match", Value: in("channel", channels)}},
		bson.D{{Key: "$sort", Value: bson.D{{Key: "channel", Value: -1}, {Key: "offset", Value: -1}}}},
		bson.D{{Key: "$group", Value: bson.D{{Key: "_id", Value: "$channel"},
			{Key: "channel", Value: bson.D{{Key: "$first", Value: "$channel"}}},
			{Key: "offset", Value: bson.D{{Key: "$first", Value: "$offset"}}}}}},
	}
}

// unexpiredEntries matches what q asks for.
func unexpiredEntries(q store.InboxQuery) bson.D {
	offsets := bson.D{{Key: "$gt", Value: stored(q.After)}}
	if q.UpTo != 0 {
		offsets = append(offsets, bson.E{Key: "$lte", Value: stored(q.UpTo)})
	}
	return bson.D{
		{Key: "channel", Value: string(q.Channel)},
		{Key: "offset", Value: offsets},
		{Key: "superseded", Value: bson.D{{Key: "$ne", Value: true}}},
		{Key: "expires", Value: bson.D{{Key: "$gt", Value: date(q.Now)}}},
	}
}

// olderInSlot matches the entries that one at offset supersedes.
func olderInSlot(slot string, offset int64) bson.D {
	return bson.D{{Key: "slot", Value: slot}, {Key: "offset", Value: bson.D{{Key: "$lt", Value: offset}}}}
}

// claimableOrdered and claimablePlain match outbox entries that are due and not
// claimed, those with a sequence and those without.
func claimableOrdered(now time.Time) bson.D { return append(inLine(0), due(now)...) }
func claimablePlain(now time.Time) bson.D {
	return append(bson.D{{Key: "seq", Value: nil}}, due(now)...)
}

func due(now time.Time) bson.D {
	return bson.D{
		{Key: "due", Value: bson.D{{Key: "$lte", Value: date(now)}}},
		{Key: "claimed", Value: bson.D{{Key: "$lte", Value: date(now)}}},
	}
}

// inLine matches ordered outbox entries that wait: those with a sequence below
// the given one, 0 for all, that is none of but.
func inLine(below int64, but ...int64) bson.D {
	sequences := bson.D{{Key: "$gt", Value: int64(0)}}
	if below > 0 {
		sequences = append(sequences, bson.E{Key: "$lt", Value: below})
	}
	if len(but) > 0 {
		sequences = append(sequences, bson.E{Key: "$nin", Value: but})
	}
	return bson.D{{Key: "seq", Value: sequences}}
}

// waiting matches the outbox entry of id if it waits.
func waiting(id push.MessageID) bson.D {
	return bson.D{{Key: "_id", Value: string(id)}, {Key: "due", Value: bson.D{{Key: "$exists", Value: true}}}}
}

// isParked matches the outbox entry of id if it is parked.
func isParked(id push.MessageID) bson.D {
	return bson.D{{Key: "_id", Value: string(id)}, {Key: "parked", Value: bson.D{{Key: "$exists", Value: true}}}}
}

// parkedBehind matches what q asks for.
func parkedBehind(q store.ParkedQuery) bson.D {
	after := ""
	if !q.AfterAt.IsZero() {
		after = parkedKey(q.AfterAt, q.AfterMessage)
	}
	return bson.D{{Key: "parked", Value: bson.D{{Key: "$gt", Value: after}}}}
}

// omittedEntries matches what a page of q leaves out, up to an offset.
func omittedEntries(q store.InboxQuery, upTo push.Offset) bson.D {
	offsets := bson.D{{Key: "$gt", Value: stored(q.After)}}
	if upTo != 0 {
		offsets = append(offsets, bson.E{Key: "$lte", Value: stored(upTo)})
	}
	return bson.D{
		{Key: "channel", Value: string(q.Channel)},
		{Key: "offset", Value: offsets},
		{Key: "$or", Value: bson.A{
			bson.D{{Key: "superseded", Value: true}},
			bson.D{{Key: "expires", Value: bson.D{{Key: "$lte", Value: date(q.Now)}}}},
		}},
	}
}

// devicesOf matches the cursors of one user in the channel of q, behind its
// device.
func devicesOf(q store.DevicesQuery, user push.UserID, after push.Device) bson.D {
	return append(bson.D{
		{Key: "channel", Value: string(q.Channel)}, {Key: "user", Value: string(user)},
		{Key: "device", Value: bson.D{{Key: "$gt", Value: string(after)}}},
	}, began(q))
}

// usersBehind matches the cursors of all users behind one in the channel of q.
func usersBehind(q store.DevicesQuery, user push.UserID) bson.D {
	return append(bson.D{
		{Key: "channel", Value: string(q.Channel)},
		{Key: "user", Value: bson.D{{Key: "$gt", Value: string(user)}}},
	}, began(q))
}

// began matches cursors that began before the entry of q. Those that began at
// the beginning do not say so.
func began(q store.DevicesQuery) bson.E {
	return bson.E{Key: "start", Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gte", Value: stored(q.Offset)}}}}}
}

// sparedAt matches what the devices from the first user to the last were spared
// of the entry of q.
func sparedAt(q store.DevicesQuery, first, last push.UserID) bson.D {
	return bson.D{
		{Key: "channel", Value: string(q.Channel)},
		{Key: "user", Value: bson.D{{Key: "$gte", Value: string(first)}, {Key: "$lte", Value: string(last)}}},
		{Key: "last", Value: bson.D{{Key: "$gte", Value: stored(q.Offset)}}},
		{Key: "first", Value: bson.D{{Key: "$lte", Value: stored(q.Offset)}}},
	}
}

// revokedAt matches revocations that have not ended at now.
func revokedAt(now time.Time) bson.D {
	return bson.D{{Key: "until", Value: bson.D{{Key: "$gt", Value: date(now)}}}}
}

// ofDevices matches the cursors of devices, and of those that share their user
// with one and their name with another.
func ofDevices(devices []store.UserDevice) bson.D {
	var users, names []string
	for _, d := range devices {
		users, names = append(users, string(d.User)), append(names, string(d.Device))
	}
	unique := func(list []string) []string { slices.Sort(list); return slices.Compact(list) }
	return append(in("user", unique(users)), in("device", unique(names))...)
}

// until matches documents whose field, a date, is at or before t.
func until(field string, t time.Time) bson.D {
	return bson.D{{Key: field, Value: bson.D{{Key: "$lte", Value: date(t)}}}}
}

// ascending and descending order by one field.
func ascending(field string) bson.D  { return bson.D{{Key: field, Value: 1}} }
func descending(field string) bson.D { return bson.D{{Key: field, Value: -1}} }

// only returns a projection to fields and _id.
func only(fields ...string) bson.D {
	var d bson.D
	for _, f := range fields {
		d = append(d, bson.E{Key: f, Value: 1})
	}
	return d
}

// findAll returns every document that filter matches.
func findAll[T any](ctx context.Context, c *mongo.Collection, filter bson.D, opts *options.FindOptionsBuilder) ([]T, error) {
	cursor, err := c.Find(ctx, filter, opts)
	if err != nil {
		return nil, classify(err)
	}
	var list []T
	if err := cursor.All(ctx, &list); err != nil {
		return nil, classify(err)
	}
	return list, nil
}

// findIn returns every document whose field is one of values, in as many
// queries as that takes.
func findIn[T any](ctx context.Context, c *mongo.Collection, field string, values []string, opts *options.FindOptionsBuilder) ([]T, error) {
	var list []T
	for part := range slices.Chunk(values, maxIDs) {
		found, err := findAll[T](ctx, c, in(field, part), opts)
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	return list, nil
}

// insert inserts documents and returns the indexes of those that a unique key
// refused.
func insert[T any](ctx context.Context, c *mongo.Collection, documents []T) ([]int, error) {
	_, err := c.InsertMany(ctx, documents, options.InsertMany().SetOrdered(false))
	return duplicates(err)
}

// update runs updates in no order, in commands of at most Config.MaxUpdates.
func (s *Store) update(ctx context.Context, c *mongo.Collection, updates []mongo.WriteModel) error {
	for part := range slices.Chunk(updates, s.cfg.MaxUpdates) {
		if _, err := c.BulkWrite(ctx, part, options.BulkWrite().SetOrdered(false)); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes documents by _id.
func remove(ctx context.Context, c *mongo.Collection, ids []string) error {
	for part := range slices.Chunk(ids, maxIDs) {
		if _, err := c.DeleteMany(ctx, in("_id", part)); err != nil {
			return classify(err)
		}
	}
	return nil
}

// date is how a time is kept: in milliseconds, and 0 for the zero time, which
// documents leave out.
func date(t time.Time) bson.DateTime {
	if t.IsZero() {
		return 0
	}
	return bson.NewDateTimeFromTime(t)
}

// moment is the time that was kept as d.
func moment(d bson.DateTime) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return d.Time().UTC()
}
