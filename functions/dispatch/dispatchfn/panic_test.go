package dispatchfn_test

import (
	"testing"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
)

// TestPanicOfOneAlone: the panic of a request that is alone goes to its caller,
// its message is counted as failed, and others go on.
func TestPanicOfOneAlone(t *testing.T) {
	m := meet(t, dispatchfn.Config{Concurrency: dispatchfn.GatherAtOnce})
	close(m.gate.open)
	m.ended.Wait()
	m.gate.panics.Store(true)
	var panicked any
	func() {
		defer func() { panicked = recover() }()
		m.dispatch.Dispatch(t.Context(), []*push.Message{message("k", toUsers("42"))}, false)
	}()
	if panicked == nil {
		t.Error("the panic ended before it came to the caller")
	}
	if failed, panics := m.metric("dispatch_messages_total", "failed"), m.metric("dispatch_panics_total", ""); failed != 1 || panics != 0 {
		t.Errorf("counted are %v failed and %v panics, want 1 and 0: the caller counts it", failed, panics)
	}
	m.gate.panics.Store(false)
	for range dispatchfn.GatherAtOnce + 1 { // its turn is free again
		if p := m.dispatch.Dispatch(t.Context(), []*push.Message{message("k", toUsers("42"))}, false)[0]; p != nil {
			t.Errorf("after the panic it is answered %v", p)
		}
	}
}

// TestPanicBehindTheInbox: a batch whose push panics is confirmed if its inbox is
// written, as is any whose push fails, and the panic is counted.
func TestPanicBehindTheInbox(t *testing.T) {
	m := meet(t, dispatchfn.Config{})
	m.node(route("#42", 1))
	answers := m.gather(map[string]push.Recipients{"to nobody": toUsers("offline"), "to a node": toUsers("42")})
	pushing := make(chan struct{})
	deliver := func() {
		close(pushing)
		panic("on purpose")
	}
	m.deliver.Store(&deliver)
	write := func() error {
		if m.gate.appends.Load() > dispatchfn.GatherAtOnce {
			<-pushing // so the inbox is written while the panic goes up
		}
		return nil
	}
	m.before.Store(&write)
	close(m.gate.open)
	for id, answer := range answers {
		if p := <-answer; p != nil {
			t.Errorf("%q is answered %v, want nothing", id, p)
		}
	}
	m.ended.Wait()
	m.dispatch.Wait()
	if panics := m.metric("dispatch_panics_total", ""); panics != 1 {
		t.Errorf("%v panics are counted, want 1", panics)
	}
	if m.inbox("#offline", "to nobody") == 0 || m.inbox("#42", "to a node") == 0 {
		t.Error("the inbox lacks what is confirmed")
	}
}

// TestPanicBesideOthers: what panics in a goroutine of its own has failed, and the
// process goes on. Nodes that missed something for it are told with what comes next.
func TestPanicBesideOthers(t *testing.T) {
	m := meet(t, dispatchfn.Config{})
	close(m.gate.open)
	m.ended.Wait()
	nodes := []*node{m.node(route("#42", 1)), m.node(route("#42", 1))}
	send := func(id string) *push.Problem {
		return m.dispatch.Dispatch(t.Context(), []*push.Message{message(id, toUsers("42"))}, false)[0]
	}

	deliver := func() { panic("on purpose") }
	m.deliver.Store(&deliver)
	if p := send("pushed"); p != nil {
		t.Errorf("a message in the inbox is answered %v", p)
	}
	m.deliver.Store(nil)
	if panics, unpushed := m.metric("dispatch_panics_total", ""), m.metric("dispatch_entries_not_pushed_total", "panic"); panics != 2 || unpushed != 2 {
		t.Errorf("counted are %v panics and %v entries that were not pushed, want 2 and 2", panics, unpushed)
	}

	write := func() error { panic("on purpose") }
	m.before.Store(&write)
	if p := send("written"); p == nil || p.Code != push.CodeUnavailable {
		t.Errorf("a message that is not in the inbox is answered %v, want %s", p, push.CodeUnavailable)
	}
	m.before.Store(nil)
	if panics := m.metric("dispatch_panics_total", ""); panics != 3 {
		t.Errorf("%v panics are counted, want 3", panics)
	}
	for i, n := range nodes {
		if len(n.requests) != 1 || !n.requests[0].Beat || len(n.requests[0].Entries) != 1 {
			t.Errorf("node %d got %+v, want the second message and to look for itself", i, n.requests)
		}
	}
}

// TestPanicInTheSweep: what panics was tried, so that it does not panic for ever.
func TestPanicInTheSweep(t *testing.T) {
	m := meet(t, dispatchfn.Config{})
	close(m.gate.open)
	m.ended.Wait()
	m.line(map[push.MessageID]int{"alone": 4}, message("one", toUsers("1")), message("alone", toUsers("2")))
	m.gate.panics.Store(true)
	if _, err := m.dispatch.SweepOutbox(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.gate.panics.Store(false)
	for id, want := range map[push.MessageID]int{"one": 1, "alone": 5} {
		if e := m.entry(id); e.Attempts != want {
			t.Errorf("%s was tried %d times, want %d", id, e.Attempts, want)
		}
	}
	if panics := m.metric("dispatch_panics_total", ""); panics != 2 {
		t.Errorf("%v panics are counted, want 2", panics)
	}
}
