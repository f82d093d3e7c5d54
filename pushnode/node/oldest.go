package node

import (
	"cmp"
	"context"
	"slices"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

const (
	// maxDeviceCursors bounds the cursors of one device. They are read together
	// whenever it connects or subscribes, in a question that others share: those of
	// a device with a million of them kept everybody from connecting.
	maxDeviceCursors = 1000

	// maxForgotten is how many of them go at a time.
	maxForgotten = 10_000
)

// forgetOldest removes n cursors of the client's device, or as many as it may:
// of known, those that moved longest ago and that the client does not use, but
// never the personal one, without which a device counts as forgotten. There
// the device starts anew, as it does where its cursor was idle for too long. What
// cannot be removed goes another time.
func (c *client) forgetOldest(ctx context.Context, known map[push.Channel]store.Cursor, n int) {
	if n <= 0 {
		return
	}
	oldest := make([]store.Cursor, 0, len(known))
	c.mu.Lock()
	for name, cur := range known {
		if c.following(name) == nil && !c.isPersonal(cur) {
			oldest = append(oldest, cur)
		}
	}
	c.mu.Unlock()
	slices.SortFunc(oldest, func(a, b store.Cursor) int {
		return cmp.Or(a.UpdatedAt.Compare(b.UpdatedAt), cmp.Compare(a.Channel, b.Channel))
	})
	channels := make([]push.Channel, min(n, maxForgotten, len(oldest)))
	for i := range channels {
		channels[i] = oldest[i].Channel
	}
	if err := c.node.cursors.remove(ctx, c.user, c.device, channels...); err != nil {
		c.node.log.Warn("cursors not removed", "client", c.id.String(), "count", len(channels), "err", err)
	}
}
