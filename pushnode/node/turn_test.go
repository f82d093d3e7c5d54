package node_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// A heldStore holds the next call of one of its methods, once it is told which,
// until it is let go.
type heldStore struct {
	store.Store

	mu   sync.Mutex // guards what follows
	hold string     // the method; "": none
	came chan struct{}
	goOn chan struct{}
}

// next has the next call of method held. It closes came when there is one, and
// goes on when goOn is closed.
func (s *heldStore) next(method string) (came <-chan struct{}, goOn chan<- struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold, s.came, s.goOn = method, make(chan struct{}), make(chan struct{})
	return s.came, s.goOn
}

func (s *heldStore) called(method string) {
	s.mu.Lock()
	held, goOn := s.hold == method, s.goOn
	if held {
		s.hold = ""
		close(s.came)
	}
	s.mu.Unlock()
	if held {
		<-goOn
	}
}

func (s *heldStore) LoadCursors(ctx context.Context, devices []store.UserDevice) ([]store.Cursor, error) {
	s.called("LoadCursors")
	return s.Store.LoadCursors(ctx, devices)
}

func (s *heldStore) AdvanceCursors(ctx context.Context, cursors []store.Cursor) error {
	s.called("AdvanceCursors")
	return s.Store.AdvanceCursors(ctx, cursors)
}

// Whatever begins a subscription, an order to end it that comes meanwhile ends it:
// the client is told of both, in this order, and its device keeps no cursor.
func TestUnsubscribedWhileItSubscribes(t *testing.T) {
	tests := map[string]struct {
		own  bool   // the client subscribes itself
		held string // where the store holds it
	}{
		"its command, before it follows":             {true, "LoadCursors"},
		"its command, before its cursor is written":  {true, "AdvanceCursors"},
		"another order, before it follows":           {false, "LoadCursors"},
		"another order, before its cursor's written": {false, "AdvanceCursors"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, node.Config{}, 0)
			held := &heldStore{Store: c.store}
			c.store = held
			c.start(node.Config{})
			a := dial(t, c.nodes[0], "device=phone")
			a.connect("42 news", "")

			came, goOn := held.next(tt.held)
			subscribed, ended := make(chan push.SubscriptionAnswer, 1), make(chan push.SubscriptionAnswer, 1)
			if tt.own {
				a.write(`{"id":2,"subscribe":{"channel":"news"}}`)
			} else {
				go func() {
					subscribed <- c.subscription("/v1/node/subscribe", push.SubscribeRequest{User: "42", Channel: "news"})
				}()
			}
			<-came
			go func() {
				ended <- c.subscription("/v1/node/unsubscribe", push.UnsubscribeRequest{User: "42", Channel: "news"})
			}()
			eventually(t, "the order waits, or is carried out", func() bool { return c.nodes[0].InLine() == 1 || len(ended) == 1 })
			close(goOn)
			if tt.own {
				if r := a.reply(2); r.Subscribe == nil {
					t.Errorf("subscribe is answered %+v", r)
				}
			} else {
				if answer := <-subscribed; answer.Connections != 1 {
					t.Errorf("the order to subscribe is answered %+v, want one connection", answer)
				}
				if told := a.news(); told.Channel != "news" || told.Subscribe == nil {
					t.Errorf("the client is told %+v first, want that it is subscribed", told)
				}
			}
			if answer := <-ended; answer.Connections != 1 {
				t.Errorf("the order to unsubscribe is answered %+v, want one connection", answer)
			}
			if told := a.news(); told.Channel != "news" || told.Unsubscribe == nil {
				t.Errorf("the client is told %+v, want that it is unsubscribed", told)
			}
			cursors, err := c.store.LoadCursors(t.Context(), []store.UserDevice{{User: "42", Device: "phone"}})
			if err != nil {
				t.Fatal(err)
			}
			for _, cur := range cursors {
				if cur.Channel == "news" {
					t.Errorf("its device has the cursor %+v still", cur)
				}
			}
		})
	}
}

// TestUnsubscribedOutOfTurn: an order that waited all its time for its turn ends
// the subscription all the same, and the device keeps no cursor.
func TestUnsubscribedOutOfTurn(t *testing.T) {
	c := newCluster(t, node.Config{}, 0)
	held := &heldStore{Store: c.store}
	c.store = held
	c.start(node.Config{CommandTimeout: 3 * time.Second})
	a := dial(t, c.nodes[0], "device=phone")
	a.connect("42 news", "")
	a.write(`{"id":2,"subscribe":{"channel":"public:x"}}`)
	a.reply(2)
	came, goOn := held.next("AdvanceCursors")
	a.write(`{"id":3,"subscribe":{"channel":"news"}}`)
	<-came
	defer close(goOn)
	if answer := c.subscription("/v1/node/unsubscribe", push.UnsubscribeRequest{User: "42", Channel: "public:x"}); answer.Connections != 1 {
		t.Errorf("the order is answered %+v, want one connection", answer)
	}
	cursors, err := c.store.LoadCursors(t.Context(), []store.UserDevice{{User: "42", Device: "phone"}})
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(cursors, func(cur store.Cursor) bool { return cur.Channel == "public:x" }); i >= 0 {
		t.Errorf("its device has the cursor %+v still", cursors[i])
	}
}
