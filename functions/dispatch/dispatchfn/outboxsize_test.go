package dispatchfn_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A weighingStore notes how much data the messages have that were loaded.
type weighingStore struct {
	dispatchfn.Store
	loaded *atomic.Int64
}

func (s weighingStore) LoadMessages(ctx context.Context, ids []push.MessageID) (map[push.MessageID]store.Record, error) {
	records, err := s.Store.LoadMessages(ctx, ids)
	for _, r := range records {
		s.loaded.Add(int64(len(r.Data)))
	}
	return records, err
}

// TestOutboxLoadsInBounds: of large messages a look takes no more than it has
// room for, of both kinds some, and puts the rest back untried; in the end all
// have gone out, each channel's in their order.
func TestOutboxLoadsInBounds(t *testing.T) {
	const each, data, bound = 40, 1000, 20_000
	var loaded atomic.Int64
	c := newCluster(t, dispatchfn.Config{OutboxBytes: bound}, func(_ *cluster, st store.Store) dispatchfn.Store {
		return weighingStore{st, &loaded}
	})
	large := func(id string, to push.Recipients) *push.Message {
		m := message(id, to)
		m.Data = json.RawMessage(`"` + strings.Repeat("x", data-2) + `"`)
		return m
	}
	var ordered, plain []*push.Message
	for i := range each {
		ordered = append(ordered, large(fmt.Sprint("ordered", i), toUsers("42")))
		plain = append(plain, large(fmt.Sprint("plain", i), toUsers("43")))
	}
	c.line(nil, ordered...)
	c.insert(plain...)
	c.put(-1, plain...)

	for looks := 0; len(c.log("#42")) < each || len(c.log("#43")) < each; looks++ {
		if looks == 2*each {
			t.Fatalf("after %d looks %d ordered and %d others have gone out, want %d of each", looks, len(c.log("#42")), len(c.log("#43")), each)
		}
		before, after := loaded.Load(), 2*each-len(c.log("#42"))-len(c.log("#43"))
		c.sweep()
		if got := loaded.Load() - before; got > bound+data {
			t.Fatalf("a look with %d entries before it loaded %d bytes, want %d at most", after, got, bound+data)
		}
		if looks == 0 && (len(c.log("#42")) == 0 || len(c.log("#43")) == 0) {
			t.Errorf("of the first look %d ordered and %d others have gone out, want some of each", len(c.log("#42")), len(c.log("#43")))
		}
	}
	for i, e := range c.log("#42") {
		if e.Message.ID != ordered[i].ID {
			t.Fatalf("place %d has %s, want %s", i, e.Message.ID, ordered[i].ID)
		}
	}
	if tried := c.metric("dispatch_outbox_total", "retry"); tried != 0 {
		t.Errorf("%v tries have failed, want none", tried)
	}
}
