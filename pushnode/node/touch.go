package node

import (
	"encoding/binary"
	"time"

	"pushcluster/shared/store"
)

// touchEvery is how often the cursors of a device that is connected are touched,
// moved or not, so that it is not taken for one that is gone. It is well below
// [store.CursorIdle], for a touch may be lost.
const touchEvery = 6 * time.Hour

// touchDue reports whether a time to touch the client's cursors has come since the
// ping before this one, at now. Each connection has its own times, by its id:
// those that came together are not due together. c.mu is held.
func (c *client) touchDue(now moment) bool {
	if c.device == "" || c.pingFirst == 0 {
		return false
	}
	phase := moment(binary.LittleEndian.Uint64(c.id[8:]) % uint64(touchEvery))
	return (now+phase)/moment(touchEvery) != (c.pingFirst+phase)/moment(touchEvery)
}

// touch has the cursors of the client's device in the channels that it follows
// touched. c.mu is held.
func (c *client) touch() {
	now := c.node.now()
	for i := range c.subs {
		if f := &c.subs[i]; f.told {
			c.node.cursors.touch(store.Cursor{User: c.user, Device: c.device, Channel: f.sub.Channel().Name(), UpdatedAt: now})
		}
	}
}
