package dispatchfn_test

import (
	"testing"
	"time"

	"pushcluster/functions/dispatch/dispatchfn"
	"pushcluster/shared/push"
)

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
		case <-time.After(time.Minute):
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
