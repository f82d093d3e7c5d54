package mongostore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// An entryDoc is a [store.InboxEntry] in the collection inbox.
type entryDoc struct {
	ID      string        `bson:"_id"`
	Channel string        `bson:"channel"`
	Offset  int64         `bson:"offset"`
	Message string        `bson:"message"`
	Expires bson.DateTime `bson:"expires"`
	// Slot is CHANNEL*KEY of an entry with a collapse key that is not
	// superseded: the newest entry always has it, so whoever writes another
	// finds that.
	Slot       string `bson:"slot,omitempty"`
	Superseded bool   `bson:"superseded,omitempty"`
}

func newEntryDoc(e *store.InboxEntry) entryDoc {
	d := entryDoc{
		ID: entryID(e.Channel, e.Message), Channel: string(e.Channel), Offset: stored(e.Offset),
		Message: string(e.Message), Expires: date(e.ExpiresAt),
	}
	if e.CollapseKey != "" {
		d.Slot = d.Channel + "*" + e.CollapseKey
	}
	return d
}

func entryID(channel push.Channel, id push.MessageID) string {
	return string(channel) + "*" + string(id)
}

// WriteInbox writes entries; see [store.Inbox].
func (s *Store) WriteInbox(ctx context.Context, entries []store.InboxEntry) ([]store.Placement, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("write inbox: %w", err)
	}
	defer cancel()
	placements, err := share(ctx, s.placing, entries)
	if err != nil {
		return nil, fmt.Errorf("write inbox: %w", err)
	}
	return placements, nil
}

// writeInbox is WriteInbox for the entries of several calls.
func (s *Store) writeInbox(ctx context.Context, entries []store.InboxEntry) ([]store.Placement, error) {
	placements := make([]store.Placement, len(entries))
	documents := make([]entryDoc, len(entries))
	for i := range entries {
		documents[i] = newEntryDoc(&entries[i])
		placements[i].Offset = entries[i].Offset
	}
	refused, err := insert(ctx, s.inbox, documents)
	if err != nil {
		return nil, err
	}
	standing, err := s.standing(ctx, documents, refused)
	if err != nil {
		return nil, err
	}
	for _, i := range refused {
		if offset, ok := standing[documents[i].ID]; ok {
			placements[i].Offset = push.Offset(offset)
		} else {
			placements[i].Taken = true
		}
	}
	// Entries that were there go along: the call that wrote them may have
	// ended before this step.
	return placements, s.supersede(ctx, documents)
}

// standing returns, by _id, the offsets of those documents named by indexes
// that exist.
func (s *Store) standing(ctx context.Context, documents []entryDoc, indexes []int) (map[string]int64, error) {
	var ids []string
	for _, i := range indexes {
		ids = append(ids, documents[i].ID)
	}
	found, err := findIn[entryDoc](ctx, s.inbox, "_id", ids, options.Find().SetProjection(only("offset")))
	if err != nil {
		return nil, err
	}
	offsets := make(map[string]int64, len(found))
	for _, d := range found {
		offsets[d.ID] = d.Offset
	}
	return offsets, nil
}

// supersede marks, in every slot of documents, all entries but the newest. It
// looks after its caller's entries are written: of two writers at once, the one
// whose entry was written later sees both, and each marks only what is older
// than an entry it saw. So all orders end alike.
func (s *Store) supersede(ctx context.Context, documents []entryDoc) error {
	var slots []string
	seen := make(map[string]bool)
	for i := range documents {
		if slot := documents[i].Slot; slot != "" && !seen[slot] {
			seen[slot] = true
			slots = append(slots, slot)
		}
	}
	found, err := findIn[entryDoc](ctx, s.inbox, "slot", slots, options.Find().SetProjection(only("slot", "offset")))
	if err != nil {
		return err
	}
	newest, entries := make(map[string]int64, len(slots)), make(map[string]int, len(slots))
	for _, d := range found {
		newest[d.Slot] = max(newest[d.Slot], d.Offset)
		entries[d.Slot]++
	}
	var updates []mongo.WriteModel
	for slot, n := range entries {
		if n > 1 {
			updates = append(updates, mongo.NewUpdateManyModel().SetFilter(olderInSlot(slot, newest[slot])).SetUpdate(bson.D{
				{Key: "$set", Value: bson.D{{Key: "superseded", Value: true}}},
				{Key: "$unset", Value: bson.D{{Key: "slot", Value: ""}}},
			}))
		}
	}
	return classify(s.update(ctx, s.inbox, updates))
}

// MoveInbox gives entries larger offsets; see [store.Inbox].
func (s *Store) MoveInbox(ctx context.Context, entries []store.InboxEntry) error {
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return fmt.Errorf("move inbox entries: %w", err)
	}
	defer cancel()
	if err := s.moveInbox(ctx, entries); err != nil {
		return fmt.Errorf("move inbox entries: %w", err)
	}
	return nil
}

func (s *Store) moveInbox(ctx context.Context, entries []store.InboxEntry) error {
	documents := make([]entryDoc, len(entries))
	for i := range entries {
		documents[i] = newEntryDoc(&entries[i])
	}
	there, err := insert(ctx, s.inbox, documents)
	if err != nil {
		return err
	}
	var moves []mongo.WriteModel
	for _, i := range there {
		d := &documents[i]
		set := bson.D{{Key: "offset", Value: d.Offset}}
		if d.Slot != "" {
			set = append(set, bson.E{Key: "slot", Value: d.Slot}) // it may be the newest again
		}
		moves = append(moves, mongo.NewUpdateOneModel().
			SetFilter(bson.D{{Key: "_id", Value: d.ID}, {Key: "offset", Value: bson.D{{Key: "$lt", Value: d.Offset}}}}).
			SetUpdate(bson.D{{Key: "$set", Value: set}, {Key: "$unset", Value: bson.D{{Key: "superseded", Value: ""}}}}))
	}
	if err := s.update(ctx, s.inbox, moves); err != nil && !mongo.IsDuplicateKeyError(err) {
		return classify(err)
	}
	standing, err := s.standing(ctx, documents, there)
	if err != nil {
		return err
	}
	for _, i := range there {
		if d := &documents[i]; standing[d.ID] < d.Offset {
			return fmt.Errorf("channel %s: another message holds offset %d", d.Channel, d.Offset)
		}
	}
	return s.supersede(ctx, documents)
}

// How long PlacedAt waits between looks at what no majority has yet, at first and
// at most: as long as a majority that is well takes to catch up.
const (
	majorityPause    = 5 * time.Millisecond
	majorityPauseEnd = 160 * time.Millisecond
)

// PlacedAt returns where message id stands; see [store.Inbox]. On its word a message
// is confirmed that is not written again. So an entry that a failover could take
// back, because no majority has it there for a third of a second, is
// [store.ErrUnavailable].
func (s *Store) PlacedAt(ctx context.Context, id push.MessageID, channels []push.Channel) (map[push.Channel]push.Offset, error) {
	if len(channels) == 0 {
		return make(map[push.Channel]push.Offset), nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("find message %s in inboxes: %w", id, err)
	}
	defer cancel()
	ids := make([]string, len(channels))
	for i, channel := range channels {
		ids[i] = entryID(channel, id)
	}
	for pause := majorityPause; ; pause *= 2 {
		placed, kept, err := s.placedAt(ctx, ids)
		switch {
		case err == nil && kept:
			return placed, nil
		case err == nil && pause > majorityPauseEnd:
			err = unavailable(errors.New("no majority has it yet"))
		case err == nil:
			err = rest(ctx, pause)
		}
		if err != nil {
			return nil, fmt.Errorf("find message %s in inboxes: %w", id, err)
		}
	}
}

// placedAt returns where the entries of ids stand, by channel. kept is false if a
// majority does not have all of them there, or further on: they move up alone.
func (s *Store) placedAt(ctx context.Context, ids []string) (placed map[push.Channel]push.Offset, kept bool, err error) {
	fields := options.Find().SetProjection(only("channel", "offset"))
	found, err := findIn[entryDoc](ctx, s.inbox, "_id", ids, fields)
	if err != nil || len(found) == 0 {
		return make(map[push.Channel]push.Offset), true, err
	}
	placed = make(map[push.Channel]push.Offset, len(found))
	there := make([]string, len(found))
	for i, d := range found {
		placed[push.Channel(d.Channel)], there[i] = push.Offset(d.Offset), d.ID
	}
	certain, err := findIn[entryDoc](ctx, s.kept, "_id", there, fields)
	safe := 0
	for _, d := range certain {
		if c := push.Channel(d.Channel); push.Offset(d.Offset) >= placed[c] {
			placed[c] = push.Offset(d.Offset)
			safe++
		}
	}
	return placed, safe == len(found), err
}

// rest waits for d, or until ctx ends, which is its error.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return unavailable(ctx.Err())
	}
}

// Places returns where message id stands; see [store.Inbox].
func (s *Store) Places(ctx context.Context, id push.MessageID, channels []push.Channel) (map[push.Channel]store.Place, error) {
	places := make(map[push.Channel]store.Place, len(channels))
	if len(channels) == 0 {
		return places, nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the places of message %s: %w", id, err)
	}
	defer cancel()
	ids := make([]string, len(channels))
	for i, channel := range channels {
		ids[i] = entryID(channel, id)
	}
	found, err := findIn[entryDoc](ctx, s.inbox, "_id", ids, options.Find())
	if err != nil {
		return nil, fmt.Errorf("find the places of message %s: %w", id, err)
	}
	for _, d := range found {
		places[push.Channel(d.Channel)] = store.Place{Offset: push.Offset(d.Offset), ExpiresAt: moment(d.Expires), Superseded: d.Superseded}
	}
	return places, nil
}

// LastOffsets returns the largest offset of each channel; see [store.Inbox].
func (s *Store) LastOffsets(ctx context.Context, channels []push.Channel) (map[push.Channel]push.Offset, error) {
	last := make(map[push.Channel]push.Offset, len(channels))
	if len(channels) == 0 {
		return last, nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("last offsets of %d channels: %w", len(channels), err)
	}
	defer cancel()
	names := make([]string, len(channels))
	for i, channel := range channels {
		names[i] = string(channel)
	}
	for part := range slices.Chunk(names, maxIDs) {
		found, err := s.lastEntries(ctx, part)
		if err != nil {
			return nil, fmt.Errorf("last offsets of %d channels: %w", len(channels), err)
		}
		for _, d := range found {
			last[push.Channel(d.Channel)] = push.Offset(d.Offset)
		}
	}
	return last, nil
}

// lastEntries returns channel and offset of each channel's last entry, or of all
// entries by rising offset where the server cannot be asked for the last.
func (s *Store) lastEntries(ctx context.Context, channels []string) ([]entryDoc, error) {
	if len(channels) == 1 {
		return findAll[entryDoc](ctx, s.inbox, in("channel", channels),
			options.Find().SetSort(descending("offset")).SetLimit(1).SetProjection(only("channel", "offset")))
	}
	var list []entryDoc
	cursor, err := s.inbox.Aggregate(ctx, lastOfEach(channels))
	if err == nil {
		err = cursor.All(ctx, &list)
	}
	if notImplemented(err) {
		return findAll[entryDoc](ctx, s.inbox, in("channel", channels),
			options.Find().SetSort(ascending("offset")).SetProjection(only("channel", "offset")))
	}
	return list, classify(err)
}

// stored is how an offset is kept; BSON's integers are signed.
func stored(o push.Offset) int64 { return int64(min(o, math.MaxInt64)) }
