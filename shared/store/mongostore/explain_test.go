package mongostore

import (
	"context"
	"crypto/rand"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// TestIndexed asks the server how it finds what each query asks for: never by
// looking at a whole collection, and never by sorting. FerretDB cannot tell.
func TestIndexed(t *testing.T) {
	uri := os.Getenv("MONGO_URL")
	if uri == "" {
		t.Skip("skipped, because MONGO_URL names no server")
	}
	s, err := Open(uri, Config{Timeout: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if ferret, err := s.IsFerretDB(t.Context()); err != nil {
		t.Fatal(err)
	} else if ferret {
		t.Skip("skipped, because FerretDB does not tell its plans")
	}
	s.use(s.client.Database("test_" + strings.ToLower(rand.Text()[:12])))
	t.Cleanup(func() {
		if err := s.Drop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}

	now := time.Now()
	tests := map[string]struct {
		collection *mongo.Collection
		filter     bson.D
		sort       bson.D
	}{
		"messages by id":           {s.messages, in("_id", []string{"a", "b"}), nil},
		"one message by id":        {s.messages, in("_id", []string{"a"}), nil},
		"expired messages":         {s.messages, until("expires", now), nil},
		"swept messages":           {s.messages, append(in("_id", []string{"a", "b"}), until("expires", now)...), nil},
		"entries by id":            {s.inbox, in("_id", []string{"c*a", "c*b"}), nil},
		"entries of slots":         {s.inbox, in("slot", []string{"c*a", "c*b"}), nil},
		"older in a slot":          {s.inbox, olderInSlot("c*a", 7), nil},
		"a page":                   {s.inbox, unexpiredEntries(store.InboxQuery{Channel: "c", Now: now}), ascending("offset")},
		"a page with an upper end": {s.inbox, unexpiredEntries(store.InboxQuery{Channel: "c", After: 1, UpTo: 7, Now: now}), ascending("offset")},
		"the last offset":          {s.inbox, in("channel", []string{"c"}), descending("offset")},
		"expired entries":          {s.inbox, until("expires", now), nil},
		"due in the outbox":        {s.outbox, claimablePlain(now), ascending("due")},
		"due in order":             {s.outbox, claimableOrdered(now), ascending("seq")},
		"claimed in the outbox":    {s.outbox, append(in("_id", []string{"a", "b"}), claimablePlain(now)...), nil},
		"any backlog":              {s.outbox, inLine(0), nil},
		"a backlog of channels":    {s.outbox, append(in("channels", []string{"a", "b"}), inLine(0)...), nil},
		"ahead in the outbox":      {s.outbox, inLine(7, 5, 6), nil},
		"ahead in channels":        {s.outbox, append(in("channels", []string{"a", "b"}), inLine(7, 5, 6)...), nil},
		"cursors of a device":      {s.cursors, ofDevices([]store.UserDevice{{User: "u", Device: "d"}}), nil},
		"cursors of devices":       {s.cursors, ofDevices([]store.UserDevice{{User: "u", Device: "d"}, {User: "v", Device: "e"}}), nil},
		"one that waits":           {s.outbox, waiting("m"), nil},
		"what is parked":           {s.outbox, parkedBehind(store.ParkedQuery{AfterAt: now, AfterMessage: "m"}), ascending("parked")},
		"ended in the outbox":      {s.outbox, until("until", now), nil},
		"omitted entries":          {s.inbox, omittedEntries(store.InboxQuery{Channel: "c", After: 1, Now: now}, 7), ascending("offset")},
		"cursors of a user":        {s.cursors, in("user", []string{"u"}), byDevice},
		"devices of a user":        {s.cursors, devicesOf(store.DevicesQuery{Channel: "c", Offset: 1}, "u", "d"), byUser},
		"devices of a channel":     {s.cursors, usersBehind(store.DevicesQuery{Channel: "c", Offset: 1}, "u"), byUser},
		"what devices were spared": {s.spared, sparedAt(store.DevicesQuery{Channel: "c", Offset: 1}, "a", "b"), nil},
		"spared long ago":          {s.spared, until("expires", now), nil},
		"revocations":              {s.control, revokedAt(now), nil},
		"sources":                  {s.sources, otherSources(""), nil},
		"other sources":            {s.sources, otherSources("a"), nil},
		"deliveries":               {s.deliveries, deliveriesBetween(store.DeliveriesQuery{Source: "a"}), descending("place")},
		"oldest deliveries":        {s.deliveries, deliveriesBetween(store.DeliveriesQuery{Source: "a", After: store.DeliveryPlace{At: now}}), ascending("place")},
		"deliveries by outcome":    {s.deliveries, deliveriesBetween(store.DeliveriesQuery{Source: "a", Outcome: "b", Before: store.DeliveryPlace{At: now}}), descending("place")},
		"trimmed deliveries":       {s.deliveries, deliveriesUpTo("a", "b"), nil},
		"old deliveries":           {s.deliveries, until("until", now), nil},
		"due callbacks":            {s.callbacks, due(now), ascending("due")},
		"claimed callbacks":        {s.callbacks, append(in("_id", []string{"a", "b"}), due(now)...), nil},
		"one parked callback":      {s.callbacks, isParked("m"), nil},
		"parked callbacks":         {s.callbacks, parkedBehind(store.ParkedQuery{AfterAt: now, AfterMessage: "m"}), ascending("parked")},
		"old callbacks":            {s.callbacks, until("until", now), nil},
		"devices seen":             {s.cursors, personalCursors("u", "$gt", "d"), byUser},
		"devices to forget":        {s.cursors, append(in("_id", []string{"a", "b"}), until("updated", now)...), nil},
		"what is forgotten":        {s.cursors, cursorsBefore("u", []push.Device{"d", "e"}, now), nil},
		"idle cursors":             {s.cursors, until("updated", now), nil},
	}
	explained := func(name string, command bson.D) {
		var answer bson.M
		err := s.db.RunCommand(t.Context(), bson.D{{Key: "explain", Value: command}, {Key: "verbosity", Value: "queryPlanner"}}).Decode(&answer)
		if err != nil {
			t.Errorf("%s: explain: %v", name, err)
			return
		}
		// An aggregation that is more than one query tells of it among its stages.
		plan := stages(bson.A{answer["queryPlanner"], answer["stages"]})
		if len(plan) == 0 || slices.Contains(plan, "COLLSCAN") || slices.Contains(plan, "SORT") {
			t.Errorf("%s: %v is found by %v", name, command, plan)
		}
	}
	explained("the last offsets", bson.D{{Key: "aggregate", Value: s.inbox.Name()},
		{Key: "pipeline", Value: lastOfEach([]string{"c", "d"})}, {Key: "cursor", Value: bson.D{}}})
	for name, tt := range tests {
		find := bson.D{{Key: "find", Value: tt.collection.Name()}, {Key: "filter", Value: tt.filter}}
		if tt.sort != nil {
			find = append(find, bson.E{Key: "sort", Value: tt.sort})
		}
		explained(name, find)
	}
}

// stages returns the stages of the winning plan in a part of an explanation.
func stages(part any) (list []string) {
	switch part := part.(type) {
	case bson.D:
		for _, e := range part {
			if name, ok := e.Value.(string); ok && e.Key == "stage" {
				list = append(list, name)
			}
			if e.Key != "rejectedPlans" {
				list = append(list, stages(e.Value)...)
			}
		}
	case bson.A:
		for _, e := range part {
			list = append(list, stages(e)...)
		}
	}
	return list
}

func TestStages(t *testing.T) {
	plan := bson.D{
		{Key: "winningPlan", Value: bson.D{
			{Key: "stage", Value: "OR"},
			{Key: "inputStages", Value: bson.A{bson.D{{Key: "stage", Value: "IXSCAN"}}, bson.D{{Key: "stage", Value: "COLLSCAN"}}}},
		}},
		{Key: "rejectedPlans", Value: bson.A{bson.D{{Key: "stage", Value: "SORT"}}}},
	}
	if got, want := stages(plan), []string{"OR", "IXSCAN", "COLLSCAN"}; !slices.Equal(got, want) {
		t.Errorf("stages(%v) = %v, want %v", plan, got, want)
	}
}
