package follow

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

const (
	ackTime  = 2 * time.Second  // how long the last acknowledgements may take
	callTime = 10 * time.Second // how long one call may: twice what the SDK gives it

	leaveTime = time.Second // how long a call may take to return when its time is over
)

// A caller calls the server's methods: a client of the SDK.
type caller interface {
	RPC(ctx context.Context, method string, data []byte) (centrifuge.RPCResult, error)
	State() centrifuge.State
}

// acks acknowledges how far each channel was taken, in a goroutine of its own:
// the SDK's calls must not be made from its callbacks.
type acks struct {
	client caller
	told   func(string)
	wake   chan struct{} // holds a token when something was added

	mu      sync.Mutex // guards what follows
	offsets map[string]uint64
}

func newAcks(client caller, told func(string)) *acks {
	return &acks{client: client, told: told, wake: make(chan struct{}, 1), offsets: make(map[string]uint64)}
}

// add notes that the channel was taken up to offset. It does not wait.
func (a *acks) add(channel string, offset uint64) {
	a.mu.Lock()
	a.offsets[channel] = max(a.offsets[channel], offset)
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// run acknowledges what is added until ctx ends.
func (a *acks) run(ctx context.Context) {
	for {
		select {
		case <-a.wake:
			a.send(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// flush acknowledges what is left, if the client is still connected.
func (a *acks) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), ackTime)
	defer cancel()
	if a.client.State() == centrifuge.StateConnected {
		a.send(ctx)
	}
}

// send acknowledges all that was added, until ctx ends. What fails is tried again
// with the next.
func (a *acks) send(ctx context.Context) {
	a.mu.Lock()
	offsets := maps.Clone(a.offsets)
	a.mu.Unlock()
	for _, channel := range slices.Sorted(maps.Keys(offsets)) {
		if ctx.Err() != nil {
			return
		}
		data, err := json.Marshal(struct {
			Channel string `json:"channel"`
			Offset  uint64 `json:"offset"`
		}{channel, offsets[channel]})
		if err == nil {
			err = a.call(ctx, data)
		}
		if err != nil {
			if ctx.Err() == nil {
				a.told("not acknowledged yet, " + channel + ": " + err.Error())
			}
			continue
		}
		a.mu.Lock()
		if a.offsets[channel] == offsets[channel] {
			delete(a.offsets, channel)
		}
		a.mu.Unlock()
	}
}

// call acknowledges one channel. It returns soon after ctx has ended, whatever the
// SDK does: a call of centrifuge-go up to 0.12.1 that is sent while the connection
// ends may never return (its pull request 142). What that one holds is little, and
// stays until the process ends.
func (a *acks) call(ctx context.Context, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		_, err := a.client.RPC(ctx, "ack", data)
		answered <- err
	}()
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-answered: // so that the client is not closed under it
		return err
	case <-time.After(leaveTime):
		return ctx.Err()
	}
}
