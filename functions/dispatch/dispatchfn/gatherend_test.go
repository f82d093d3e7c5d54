package dispatchfn_test

import (
	"testing"
	"time"

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

// TestWaitForWhatRunsOn: what a batch does for nodes that are no request's is
// not waited for by requests, but by Wait.
func TestWaitForWhatRunsOn(t *testing.T) {
	m := meet(t, dispatchfn.Config{})
	n := m.node(route("#42", 1))
	answers := m.gather(map[string]push.Recipients{"a": toUsers("42"), "b": toUsers("nobody")})
	close(m.gate.open)
	for id, answer := range answers {
		if p := <-answer; p != nil {
			t.Fatalf("%q is answered %v", id, p)
		}
	}
	m.ended.Wait()
	m.dispatch.Wait()
	m.gate.open, m.gate.behind = make(chan struct{}), make(chan struct{})
	m.gate.appends.Store(0)
	m.plug()
	answers = m.gather(map[string]push.Recipients{"c": toUsers("nobody"), "d": toUsers("nobody else")})
	asked, answer := make(chan struct{}), make(chan struct{})
	deliver := func() {
		close(asked)
		<-answer
	}
	m.deliver.Store(&deliver)
	close(m.gate.open)
	m.await(func() bool { return m.gate.appends.Load() > dispatchfn.GatherAtOnce })
	m.redis.FlushAll() // so the node, which took something, is told to look for itself
	close(m.gate.behind)
	<-asked
	for id, answer := range answers {
		select {
		case p := <-answer:
			if p != nil {
				t.Errorf("%q is answered %v", id, p)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%q waits for a node that it is not for", id)
		}
	}
	waited := make(chan struct{})
	go func() {
		m.dispatch.Wait()
		close(waited)
	}()
	select {
	case <-waited:
		t.Error("Wait returned while a node was being told")
	default:
	}
	close(answer)
	<-waited
	m.ended.Wait()
	if n.count() != 2 {
		t.Errorf("the node was asked %d times when Wait returned, want 2", n.count())
	}
}

// TestOneAloneIsWaitedFor: a request that is alone counts for Wait, too, until it
// is answered.
func TestOneAloneIsWaitedFor(t *testing.T) {
	m := meet(t, dispatchfn.Config{Concurrency: dispatchfn.GatherAtOnce})
	close(m.gate.open)
	m.ended.Wait()
	m.dispatch.Wait()
	running := 0
	write := func() error {
		running = m.dispatch.Running()
		return nil
	}
	m.before.Store(&write)
	m.dispatch.Dispatch(t.Context(), []*push.Message{message("k", toUsers("42"))}, false)
	m.dispatch.Wait()
	if running != 1 || m.dispatch.Running() != 0 {
		t.Errorf("%d requests run while one writes the inbox, and %d behind it, want 1 and 0", running, m.dispatch.Running())
	}
}
