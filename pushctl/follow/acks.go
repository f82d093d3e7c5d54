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

// ackTime is how long the last acknowledgements may take.
const ackTime = 2 * time.Second

// acks acknowledges how far each channel was taken, in a goroutine of its own:
// the SDK's calls must not be made from its callbacks.
type acks struct {
	client *centrifuge.Client
	told   func(string)
	wake   chan struct{} // holds a token when something was added

	mu      sync.Mutex // guards what follows
	offsets map[string]uint64
}

func newAcks(client *centrifuge.Client, told func(string)) *acks {
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

// send acknowledges all that was added. What fails is tried again with the next.
func (a *acks) send(ctx context.Context) {
	a.mu.Lock()
	offsets := maps.Clone(a.offsets)
	a.mu.Unlock()
	for _, channel := range slices.Sorted(maps.Keys(offsets)) {
		data, err := json.Marshal(struct {
			Channel string `json:"channel"`
			Offset  uint64 `json:"offset"`
		}{channel, offsets[channel]})
		if err == nil {
			_, err = a.client.RPC(ctx, "ack", data)
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
