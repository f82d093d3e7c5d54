package follow

import (
	"context"
	"testing"

	"github.com/centrifugal/centrifuge-go"
)

// A deafSDK is a client whose first call never returns, not even when its context
// ends.
type deafSDK struct {
	calls  chan string // what is to be acknowledged
	end    chan struct{}
	silent bool
}

func (d *deafSDK) State() centrifuge.State { return centrifuge.StateConnected }

func (d *deafSDK) RPC(_ context.Context, _ string, data []byte) (centrifuge.RPCResult, error) {
	silent := d.silent
	d.silent = false
	d.calls <- string(data)
	if silent {
		<-d.end
	}
	return centrifuge.RPCResult{}, nil
}

func TestCallThatNeverReturns(t *testing.T) {
	d := &deafSDK{calls: make(chan string, 2), end: make(chan struct{}), silent: true}
	t.Cleanup(func() { close(d.end) })
	a := newAcks(d, func(what string) { t.Errorf("told %q, though it is over", what) })
	a.add("#42", 7)
	a.add("news", 9) // never comes to its turn
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); a.run(ctx) }()
	const ack = `{"channel":"#42","offset":7}`
	if got := <-d.calls; got != ack {
		t.Errorf("acknowledged %s, want %s", got, ack)
	}
	cancel()
	<-ended // and the test does not hang
	if len(d.calls) != 0 {
		t.Errorf("%s is acknowledged though it is over", <-d.calls)
	}
	a.flush()
	if got := <-d.calls; got != ack {
		t.Errorf("in the end %s is acknowledged, want %s, which was not answered", got, ack)
	}
}
