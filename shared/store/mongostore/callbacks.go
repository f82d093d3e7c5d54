package mongostore

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A callbackDoc is a [store.Callback] in the collection callbacks. One that
// waits has due and claimed, one that is parked has parked, see parkedKey.
type callbackDoc struct {
	ID       string        `bson:"_id"`
	Source   string        `bson:"source"`
	Due      bson.DateTime `bson:"due,omitempty"`
	Claimed  bson.DateTime `bson:"claimed,omitempty"` // until then
	Claim    string        `bson:"claim,omitempty"`
	Parked   string        `bson:"parked,omitempty"`
	Attempts int           `bson:"attempts"`
	Since    bson.DateTime `bson:"since,omitempty"`
	Reason   string        `bson:"reason,omitempty"`
	Progress []byte        `bson:"progress,omitempty"`
	Until    bson.DateTime `bson:"until"`
}

// newCallbackDoc returns the document of c, not claimed.
func newCallbackDoc(c *store.Callback) callbackDoc {
	d := callbackDoc{ID: string(c.Message), Source: c.Source, Attempts: c.Attempts, Reason: c.Reason,
		Progress: c.Progress, Until: date(c.Until)}
	if !c.FailingSince.IsZero() {
		d.Since = date(c.FailingSince)
	}
	switch c.State {
	case store.CallbackWaits:
		d.Due, d.Claimed = max(date(c.DueAt), 1), 1
	case store.CallbackParked:
		d.Parked = parkedKey(c.DueAt, c.Message)
	}
	return d
}

func (d *callbackDoc) callback() store.Callback {
	c := store.Callback{Message: push.MessageID(d.ID), Source: d.Source, State: store.CallbackEnded, Attempts: d.Attempts,
		Reason: d.Reason, Progress: d.Progress, Until: moment(d.Until), Claim: d.Claim}
	if d.Since != 0 {
		c.FailingSince = moment(d.Since)
	}
	switch {
	case d.Due != 0:
		c.State, c.DueAt = store.CallbackWaits, moment(d.Due)
	case d.Parked != "":
		c.State, c.DueAt = store.CallbackParked, parkedAt(d.Parked)
	}
	return c
}

// PutCallbacks writes entries; see [store.Callbacks].
func (s *Store) PutCallbacks(ctx context.Context, entries []store.Callback) error {
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return fmt.Errorf("put callbacks: %w", err)
	}
	defer cancel()
	documents := make([]callbackDoc, len(entries))
	for i := range entries {
		documents[i] = newCallbackDoc(&entries[i])
	}
	if _, err := insert(ctx, s.callbacks, documents); err != nil {
		return fmt.Errorf("put callbacks: %w", err)
	}
	return nil
}

// ClaimCallbacks claims due entries; see [store.Callbacks].
func (s *Store) ClaimCallbacks(ctx context.Context, now, until time.Time, limit int) ([]store.Callback, error) {
	if limit <= 0 {
		return nil, nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("claim callbacks: %w", err)
	}
	defer cancel()
	var claimed []store.Callback
	for range claimRounds {
		got, lost, err := s.claimCallbacks(ctx, now, until, limit-len(claimed))
		if err != nil {
			return nil, fmt.Errorf("claim callbacks: %w", err)
		}
		claimed = append(claimed, got...)
		if lost == 0 || len(claimed) == limit {
			break
		}
	}
	slices.SortFunc(claimed, func(a, b store.Callback) int {
		return cmp.Or(a.DueAt.Compare(b.DueAt), cmp.Compare(a.Message, b.Message))
	})
	return claimed, nil
}

// claimCallbacks finds entries, puts its mark on those that are still free, and
// reads which ones that were. It also tells how many it lost to others.
func (s *Store) claimCallbacks(ctx context.Context, now, until time.Time, limit int) (claimed []store.Callback, lost int, err error) {
	free, err := findAll[callbackDoc](ctx, s.callbacks, due(now),
		options.Find().SetSort(ascending("due")).SetLimit(int64(limit)).SetProjection(only("_id")))
	if err != nil || len(free) == 0 {
		return nil, 0, err
	}
	ids := make([]string, len(free))
	for i := range free {
		ids[i] = free[i].ID
	}
	mark := rand.Text()
	for part := range slices.Chunk(ids, maxIDs) {
		_, err := s.callbacks.UpdateMany(ctx, append(in("_id", part), due(now)...), bson.D{
			{Key: "$set", Value: bson.D{{Key: "claimed", Value: date(until)}, {Key: "claim", Value: mark}}},
		})
		if err != nil {
			return nil, 0, classify(err)
		}
	}
	found, err := findIn[callbackDoc](ctx, s.callbacks, "_id", ids, options.Find())
	if err != nil {
		return nil, 0, err
	}
	for i := range found {
		if found[i].Claim == mark {
			claimed = append(claimed, found[i].callback())
		}
	}
	return claimed, len(ids) - len(claimed), nil
}

// KeepCallbacks keeps what became of entries; see [store.Callbacks].
func (s *Store) KeepCallbacks(ctx context.Context, entries []store.Callback) error {
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return fmt.Errorf("keep callbacks: %w", err)
	}
	defer cancel()
	var updates []mongo.WriteModel
	for i := range entries {
		if entries[i].Claim != "" {
			updates = append(updates, keepCallback(&entries[i]))
		}
	}
	if len(updates) == 0 {
		return nil
	}
	if err := s.update(ctx, s.callbacks, updates); err != nil {
		return fmt.Errorf("keep callbacks: %w", classify(err))
	}
	return nil
}

// keepCallback is the update by which whoever has claimed c gives it back.
func keepCallback(c *store.Callback) mongo.WriteModel {
	d := newCallbackDoc(c)
	set := bson.D{{Key: "attempts", Value: d.Attempts}, {Key: "since", Value: d.Since},
		{Key: "reason", Value: d.Reason}, {Key: "progress", Value: d.Progress}}
	unset := bson.D{{Key: "claim", Value: ""}}
	optional := func(name string, value any, there bool) {
		if there {
			set = append(set, bson.E{Key: name, Value: value})
		} else {
			unset = append(unset, bson.E{Key: name, Value: ""})
		}
	}
	optional("due", d.Due, d.Due != 0)
	optional("claimed", d.Claimed, d.Due != 0)
	optional("parked", d.Parked, d.Parked != "")
	return mongo.NewUpdateOneModel().
		SetFilter(bson.D{{Key: "_id", Value: d.ID}, {Key: "claim", Value: c.Claim}}).
		SetUpdate(bson.D{{Key: "$set", Value: set}, {Key: "$unset", Value: unset}})
}

// ListCallbacks returns what is parked; see [store.Callbacks].
func (s *Store) ListCallbacks(ctx context.Context, q store.CallbacksQuery) ([]store.Callback, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return nil, fmt.Errorf("list parked callbacks: %w", err)
	}
	defer cancel()
	if q.Limit <= 0 {
		q.Limit = store.DefaultParked
	}
	behind := parkedBehind(store.ParkedQuery{AfterAt: q.AfterAt, AfterMessage: q.AfterMessage})
	found, err := findAll[callbackDoc](ctx, s.callbacks, behind, options.Find().SetSort(ascending("parked")).SetLimit(int64(q.Limit)))
	if err != nil {
		return nil, fmt.Errorf("list parked callbacks: %w", err)
	}
	list := make([]store.Callback, len(found))
	for i := range found {
		list[i] = found[i].callback()
	}
	return list, nil
}

// ReplayCallback has a parked entry wait again; see [store.Callbacks].
func (s *Store) ReplayCallback(ctx context.Context, id push.MessageID, due time.Time) (bool, error) {
	return s.changeCallback(ctx, "replay", id, bson.D{
		{Key: "$set", Value: bson.D{{Key: "due", Value: max(date(due), 1)}, {Key: "claimed", Value: bson.DateTime(1)}, {Key: "attempts", Value: 0}}},
		{Key: "$unset", Value: bson.D{{Key: "parked", Value: ""}, {Key: "since", Value: ""}, {Key: "claim", Value: ""}}},
	})
}

// DiscardCallback ends a parked entry; see [store.Callbacks].
func (s *Store) DiscardCallback(ctx context.Context, id push.MessageID) (bool, error) {
	return s.changeCallback(ctx, "discard", id, bson.D{{Key: "$unset", Value: bson.D{{Key: "parked", Value: ""}}}})
}

// changeCallback changes the parked entry of id and reports whether there was
// one.
func (s *Store) changeCallback(ctx context.Context, what string, id push.MessageID, change bson.D) (bool, error) {
	ctx, cancel, err := s.deadline(ctx)
	if err != nil {
		return false, fmt.Errorf("%s the callback of message %s: %w", what, id, err)
	}
	defer cancel()
	done, err := s.callbacks.UpdateOne(ctx, isParked(id), change)
	if err != nil {
		return false, fmt.Errorf("%s the callback of message %s: %w", what, id, classify(err))
	}
	return done.MatchedCount == 1, nil
}
