package dispatchfn_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
	"pushcluster/shared/registry"
)

// A gate is a registry whose appends wait until it opens.
type gate struct {
	*registry.Registry
	open    chan struct{}
	behind  chan struct{} // not nil: what follows those that may be at once waits for it, too
	appends atomic.Int32
	panics  atomic.Bool // in what is appended once it is open
}

func (g *gate) Append(ctx context.Context, items []registry.Item) (registry.Appended, error) {
	n := g.appends.Add(1)
	<-g.open
	if g.behind != nil && n > dispatchfn.GatherAtOnce {
		<-g.behind
	}
	if g.panics.Load() && n > dispatchfn.GatherAtOnce {
		panic("on purpose")
	}
	return g.Registry.Append(ctx, items)
}

// hookedNodes runs a function before a batch goes to a node.
type hookedNodes struct {
	dispatchfn.Nodes
	deliver *atomic.Pointer[func()]
}

func (n hookedNodes) Deliver(ctx context.Context, id push.NodeID, req push.DeliverRequest) (push.DeliverAnswer, error) {
	if deliver := n.deliver.Load(); deliver != nil {
		(*deliver)()
	}
	return n.Nodes.Deliver(ctx, id, req)
}

// A meeting is Dispatch with small requests that wait to go together.
type meeting struct {
	*cluster
	dispatch *dispatchfn.Handler
	gate     *gate
	before   atomic.Pointer[func() error] // writes of the inbox
	deliver  atomic.Pointer[func()]       // before batches go to nodes
	ended    sync.WaitGroup
}

// meet has as many batches as may be appended at once wait at a gate, so that what
// is sent then gathers. What waits stays new, however slow the machine is.
func meet(t *testing.T, cfg dispatchfn.Config) *meeting {
	t.Helper()
	m := &meeting{cluster: newCluster(t, dispatchfn.Config{BatchItems: cfg.BatchItems}, nil)}
	cfg.Deadline, cfg.PushTime, cfg.OutboxClaim = cmp.Or(cfg.Deadline, patience), patience, patience
	m.prom = prometheus.NewRegistry() // of the one that is tested
	m.gate = &gate{Registry: m.reg, open: make(chan struct{})}
	var err error
	m.dispatch, err = dispatchfn.New(cfg, m.gate, faultyStore{m.store, func() error {
		if before := m.before.Load(); before != nil {
			return (*before)()
		}
		return nil
	}}, hookedNodes{newNodes(t, m.reg, nil), &m.deliver}, slog.New(slog.DiscardHandler), m.prom)
	if err != nil {
		t.Fatal(err)
	}
	m.dispatch.StaysNew(time.Hour)
	m.plug()
	return m
}

// plug has batches wait at the gate, as many as may be appended at once.
func (m *meeting) plug() {
	m.t.Helper()
	for i := range dispatchfn.GatherAtOnce {
		m.start(fmt.Sprintf("plug-%d", i), toUsers("nobody"))
		m.await(func() bool { return int(m.gate.appends.Load()) == i+1 })
		appended := time.Now()
		m.await(func() bool { return time.Since(appended) > dispatchfn.GatherShare }) // what comes earlier waits for this one
	}
}

func (m *meeting) await(holds func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); runtime.Gosched() {
		if time.Now().After(deadline) {
			m.t.Fatal("what is awaited does not come")
		}
	}
}

// start sends a request of one message and returns where its problem will be.
func (m *meeting) start(id string, to push.Recipients) <-chan *push.Problem {
	return m.startUnder(m.t.Context(), id, to)
}

func (m *meeting) startUnder(ctx context.Context, id string, to push.Recipients) <-chan *push.Problem {
	answered := make(chan *push.Problem, 1)
	m.ended.Go(func() {
		answered <- m.dispatch.Dispatch(ctx, []*push.Message{message(id, to)}, false)[0]
	})
	return answered
}

// gather starts requests, which wait, and returns where their problems will be.
func (m *meeting) gather(requests map[string]push.Recipients) map[string]<-chan *push.Problem {
	answers := make(map[string]<-chan *push.Problem)
	for id, to := range requests {
		answers[id] = m.start(id, to)
		m.await(func() bool { return m.dispatch.Waiting() == len(answers) })
	}
	return answers
}

// TestSmallRequestsMeet: requests that meet are one batch, and none waits for what
// is another's.
func TestSmallRequestsMeet(t *testing.T) {
	m := meet(t, dispatchfn.Config{})
	slow, fast := m.node(route("#slow", 1)), m.node(route("#fast", 1), route("#both", 2))
	slow.add(route("#both", 2))
	slow.hang = make(chan struct{})
	answers := m.gather(map[string]push.Recipients{
		"to slow": toUsers("slow"), "to fast": toUsers("fast"), "to fast as well": toUsers("fast"), "to both": toUsers("both"),
		"to nobody": toUsers("offline"), "to no user": toUsers(""),
	})
	close(m.gate.open)
	for _, id := range []string{"to fast", "to fast as well", "to nobody"} {
		if p := <-answers[id]; p != nil {
			t.Errorf("%q is answered %v, want nothing", id, p)
		}
	}
	if p := <-answers["to no user"]; p == nil || p.Code != push.CodeInvalidMessage {
		t.Errorf("a message to no user is answered %v, want %s", p, push.CodeInvalidMessage)
	}
	for _, id := range []string{"to slow", "to both"} {
		select {
		case p := <-answers[id]:
			t.Errorf("%q is answered %v although its node has not answered", id, p)
		default:
		}
	}
	close(slow.hang)
	for _, id := range []string{"to slow", "to both"} {
		if p := <-answers[id]; p != nil {
			t.Errorf("%q is answered %v, want nothing", id, p)
		}
	}
	m.ended.Wait()
	if n := m.gate.appends.Load(); n != dispatchfn.GatherAtOnce+1 {
		t.Errorf("%d appends, want one for all that met", n-dispatchfn.GatherAtOnce)
	}
	if slow.count() != 1 || fast.count() != 1 || len(slow.got()) != 2 || len(fast.got()) != 3 {
		t.Errorf("the nodes got %q and %q in %d and %d requests, want one each", names(slow.got()), names(fast.got()), slow.count(), fast.count())
	}
	for id, channel := range map[push.MessageID]push.Channel{"to slow": "#slow", "to both": "#both", "to nobody": "#offline"} {
		if m.inbox(channel, id) == 0 {
			t.Errorf("the inbox lacks %q", id)
		}
	}
}

// TestTheSameTwiceMeets: of one message that two requests bring there is one.
func TestTheSameTwiceMeets(t *testing.T) {
	m := meet(t, dispatchfn.Config{})
	n := m.node(route("#42", 1))
	first := m.gather(map[string]push.Recipients{"k": toUsers("42")})["k"]
	second := m.start("k", toUsers("42"))
	m.await(func() bool { return m.dispatch.Waiting() == 2 })
	close(m.gate.open)
	if p, q := <-first, <-second; p != nil || q != nil {
		t.Errorf("answered %v and %v, want nothing", p, q)
	}
	m.ended.Wait()
	log := m.log("#42")
	if len(log) != 1 || m.inbox("#42", "k") != log[0].Offset {
		t.Errorf("the log has %q, and the inbox the message at %d", names(log), m.inbox("#42", "k"))
	}
	for _, e := range n.got() {
		if e.Offset != log[0].Offset {
			t.Errorf("the node got the message at %d, the log has it at %d", e.Offset, log[0].Offset)
		}
	}
}

// TestWhatMeetsFails: what cannot be dispatched together fails for each.
func TestWhatMeetsFails(t *testing.T) {
	tests := map[string]struct {
		prepare func(*meeting)
		want    push.Code
		failed  float64 // with the batches before
		panics  float64
	}{
		"the inbox cannot be written": {func(m *meeting) {
			broken := func() error { return errors.New("no store") }
			m.before.Store(&broken)
		}, push.CodeUnavailable, dispatchfn.GatherAtOnce + 3, 0},
		"it panics": {func(m *meeting) { m.gate.panics.Store(true) }, push.CodeInternal, 3, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := meet(t, dispatchfn.Config{})
			answers := m.gather(map[string]push.Recipients{"a": toUsers("1"), "b": toUsers("2"), "c": toUsers("1")})
			tt.prepare(m)
			close(m.gate.open)
			for id, answer := range answers {
				if p := <-answer; p == nil || p.Code != tt.want {
					t.Errorf("%q is answered %v, want %s", id, p, tt.want)
				}
			}
			m.ended.Wait()
			m.dispatch.Wait()
			if failed, panics := m.metric("dispatch_messages_total", "failed"), m.metric("dispatch_panics_total", ""); failed != tt.failed || panics != tt.panics {
				t.Errorf("counted are %v failed and %v panics, want %v and %v", failed, panics, tt.failed, tt.panics)
			}
			m.gate.panics.Store(false)
			m.before.Store(nil)
			for _, id := range []string{"a", "b", "c"} {
				if p := m.dispatch.Dispatch(t.Context(), []*push.Message{message(id, toUsers("1"))}, true)[0]; p != nil {
					t.Errorf("%q, again, is answered %v", id, p)
				}
			}
		})
	}
}
