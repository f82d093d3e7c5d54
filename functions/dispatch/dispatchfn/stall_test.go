package dispatchfn_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
	"pushcluster/shared/registry/registrytest"
	"pushcluster/shared/store"
)

// TestWhoLeavesIsNotDispatched: a request that waits for its batch is answered
// when its caller leaves, and never dispatched.
func TestWhoLeavesIsNotDispatched(t *testing.T) {
	m := meet(t, dispatchfn.Config{})
	ctx, leave := context.WithCancel(t.Context())
	answer := m.startUnder(ctx, "left", toUsers("42"))
	m.await(func() bool { return m.dispatch.Waiting() == 1 })
	leave()
	if p := <-answer; p == nil || p.Code != push.CodeUnavailable {
		t.Errorf("who left is answered %v, want %s", p, push.CodeUnavailable)
	}
	close(m.gate.open)
	m.ended.Wait()
	m.dispatch.Wait()
	if n := m.gate.appends.Load(); n != dispatchfn.GatherAtOnce || len(m.log("#42")) > 0 {
		t.Errorf("%d appends after it left, the log has %q; want none, nothing", n-dispatchfn.GatherAtOnce, names(m.log("#42")))
	}
	if failed := m.metric("dispatch_messages_total", "failed"); failed != 1 {
		t.Errorf("%v messages are counted as failed, want 1", failed)
	}
}

// TestLateIsNotDoubled: a request that has waited for long is dispatched as one
// that may have been dispatched by another since, whose place stands.
func TestLateIsNotDoubled(t *testing.T) {
	m := meet(t, dispatchfn.Config{})
	m.dispatch.StaysNew(m.dispatch.Fresh())
	n := m.node(route("#42", 1))
	late := message("late", toUsers("42"))
	m.insert(late)
	answers := m.gather(map[string]push.Recipients{"late": toUsers("42")})
	waits := time.Now()
	// Its sender gives up, another Dispatch finds it in the outbox, and in the end
	// the log does not know it any more.
	m.send(true, late)
	if _, err := registrytest.Do(m.redis.Addr(), "DEL", "push:{#42}:log"); err != nil {
		t.Fatal(err)
	}
	m.await(func() bool { return time.Since(waits) > m.dispatch.Fresh() })
	newest := m.start("newest", toUsers("42"))
	m.await(func() bool { return m.dispatch.Waiting() == 2 })
	close(m.gate.open)
	if p, q := <-answers["late"], <-newest; p != nil || q != nil {
		t.Errorf("answered %v and %v, want nothing", p, q)
	}
	m.ended.Wait()
	m.dispatch.Wait()
	at := make(map[push.Offset]bool)
	for _, e := range n.got() {
		if e.Message.ID == "late" {
			at[e.Offset] = true
		}
	}
	if len(at) != 1 || !at[m.inbox("#42", "late")] {
		t.Errorf("the node got the message at %v, the inbox has it at %d", at, m.inbox("#42", "late"))
	}
	if m.inbox("#42", "newest") == 0 {
		t.Error("the inbox lacks what came after it")
	}
}

// TestTooMuchWaits: beyond a bound requests are refused at once.
func TestTooMuchWaits(t *testing.T) {
	m := meet(t, dispatchfn.Config{Deadline: time.Minute})
	ctx, leave := context.WithCancel(t.Context())
	for i := range dispatchfn.WaitingCalls {
		m.startUnder(ctx, fmt.Sprint("waits-", i), toUsers("42"))
	}
	m.await(func() bool { return m.dispatch.Waiting() == dispatchfn.WaitingCalls })
	if p := <-m.start("too much", toUsers("42")); p == nil || p.Code != push.CodeUnavailable {
		t.Errorf("what is too much is answered %v, want %s", p, push.CodeUnavailable)
	}
	leave()
	m.await(func() bool { return m.dispatch.Waiting() == 0 })
	close(m.gate.open)
	m.ended.Wait()
	if log := m.log("#42"); len(log) > 0 {
		t.Errorf("%d of those who left were dispatched", len(log))
	}
}

// A hangingStore's writes to the inbox hang until they are told to end.
type hangingStore struct{ dispatchfn.Store }

func (hangingStore) WriteInbox(ctx context.Context, _ []store.InboxEntry) ([]store.Placement, error) {
	<-ctx.Done()
	return nil, errors.New("hung")
}

// TestDeadlineOfWhatWaits: the time of a request counts from when it came,
// however much is before it.
func TestDeadlineOfWhatWaits(t *testing.T) {
	const deadline = 2 * time.Second
	c := newCluster(t, dispatchfn.Config{Deadline: deadline, Concurrency: 1}, func(_ *cluster, s store.Store) dispatchfn.Store { return hangingStore{s} })
	var all sync.WaitGroup
	took := make([]time.Duration, 2000)
	for i := range took {
		all.Go(func() {
			began := time.Now()
			if p := c.Dispatch(t.Context(), []*push.Message{message(fmt.Sprint("m", i), toUsers(push.UserID(fmt.Sprint(i))))}, false)[0]; p == nil {
				t.Errorf("message %d is confirmed without an inbox", i)
			}
			took[i] = time.Since(began)
		})
	}
	all.Wait()
	c.Wait()
	for i, d := range took {
		if d > 5*deadline { // one, and what the machine does meanwhile; from where it is its turn it would be eight
			t.Fatalf("request %d was answered after %v, its deadline is %v", i, d, deadline)
		}
	}
	if failed := c.metric("dispatch_messages_total", "failed"); failed != float64(len(took)) {
		t.Errorf("%v messages are counted as failed, want %d", failed, len(took))
	}
}

// TestBatchItems: what meets makes no batch that is larger than one may be, and
// neither does a request: all that is confirmed was dispatched.
func TestBatchItems(t *testing.T) {
	requests := map[string]push.Recipients{
		"to one": toUsers("1"), "to another": toUsers("2"), "to two": toUsers("1", "2"), "to two others": toUsers("3", "4"), "to two more": toUsers("5", "6"),
		"to six": toUsers("1", "2", "3", "4", "5", "6"),
	}
	tests := map[string]int{"all apart": 1, "few together": 5, "all together": 100}
	for name, items := range tests {
		t.Run(name, func(t *testing.T) {
			m := meet(t, dispatchfn.Config{BatchItems: items})
			answers := make(map[string]<-chan *push.Problem)
			for id, to := range requests {
				answers[id] = m.start(id, to)
			}
			var messages []*push.Message
			for i := range 10 {
				messages = append(messages, message(fmt.Sprint("m", i), toUsers("7")))
			}
			m.send(false, messages...)
			close(m.gate.open)
			for id, to := range requests {
				if p := <-answers[id]; p != nil {
					t.Errorf("%q is answered %v, want nothing", id, p)
				}
				for _, channel := range to.List() {
					if m.inbox(channel, push.MessageID(id)) == 0 {
						t.Errorf("the inbox of %s lacks %q, which is confirmed", channel, id)
					}
				}
			}
			m.ended.Wait()
			m.dispatch.Wait()
		})
	}
}
