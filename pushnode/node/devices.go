package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
)

// longAway is how long a device was not seen for whom it is made sure, before it
// is told where it is, that it is not being forgotten: a device may be forgotten
// touchEvery later at the earliest, and its cursors are touched by then.
const longAway = store.DeviceQuiet - touchEvery

// loadCursors returns how far the client's device has come, by channel; empty
// without a device, and where the device was forgotten.
func (c *client) loadCursors(ctx context.Context) (map[push.Channel]store.Cursor, error) {
	if c.device == "" {
		return nil, nil
	}
	for touched := false; ; touched = true {
		list, err := c.node.devices.of(ctx, store.UserDevice{User: c.user, Device: c.device})
		if err != nil {
			return nil, err
		}
		now := c.node.now()
		own := slices.IndexFunc(list, c.isPersonal)
		switch {
		case own >= 0 && (touched || now.Sub(list[own].UpdatedAt) <= longAway):
			return byChannel(list), nil
		case own >= 0:
			// From now on it is not forgotten any more. Was it before, the next look shows it.
			touch := store.Cursor{User: c.user, Device: c.device, Channel: list[own].Channel, UpdatedAt: now}
			err := c.node.store.TouchCursors(ctx, []store.Cursor{touch})
			if errors.Is(err, store.ErrUnavailable) && ctx.Err() == nil {
				// Where no date can be written, no device is likely to be forgotten either.
				c.node.log.Warn("device not touched as it connects", "client", c.id.String(), "err", err)
			} else if err != nil {
				return nil, err
			}
		case len(list) > 0:
			// What is left of it must not be taken for cursors of the device that begins.
			// What is not forgotten with it is of one that was there lately.
			quiet := now.Add(-store.DeviceQuiet)
			list = slices.DeleteFunc(list, func(cur store.Cursor) bool { return cur.UpdatedAt.Before(store.ForgottenBefore(quiet)) })
			return byChannel(list), c.node.store.ForgetDevices(ctx, c.user, []push.Device{c.device}, quiet)
		default:
			return nil, nil
		}
	}
}

func byChannel(list []store.Cursor) map[push.Channel]store.Cursor {
	cursors := make(map[push.Channel]store.Cursor, len(list))
	for _, cur := range list {
		cursors[cur.Channel] = cur
	}
	return cursors
}

// isPersonal reports whether cur is that of the user's personal channel, which
// every device has.
func (c *client) isPersonal(cur store.Cursor) bool {
	user, ok := cur.Channel.User()
	return ok && user == c.user
}

// maxNewDevices bounds the new devices that wait for a trimmer.
const maxNewDevices = 1000

// A trimmer has devices of users who have too many forgotten, each time that one
// of theirs is new, and nobody waits for it. What it leaves undone is done when the
// user's next one is new.
type trimmer struct {
	store   store.Cursors
	now     func() time.Time
	log     *slog.Logger
	metrics *metrics
	wake    chan struct{}

	mu      sync.Mutex // guards what follows
	waiting []store.UserDevice
}

// begins tells t of a new device. It never blocks.
func (t *trimmer) begins(d store.UserDevice) {
	t.mu.Lock()
	if len(t.waiting) >= maxNewDevices {
		t.mu.Unlock()
		t.metrics.devicesTrimmed.WithLabelValues("skipped").Inc()
		return
	}
	t.waiting = append(t.waiting, d)
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// run trims until ctx ends.
func (t *trimmer) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.wake:
		}
		t.mu.Lock()
		devices := t.waiting
		t.waiting = nil
		t.mu.Unlock()
		for _, d := range devices {
			if err := t.trim(ctx, d); err != nil && ctx.Err() == nil {
				t.metrics.devicesTrimmed.WithLabelValues("failed").Inc()
				t.log.Warn("devices not forgotten, that is left to the next new one", "err", err)
			}
		}
	}
}

// trim has devices of d's user forgotten, if there are too many with d.
func (t *trimmer) trim(ctx context.Context, d store.UserDevice) error {
	quiet := t.now().Add(-store.DeviceQuiet)
	devices, err := t.store.QuietDevices(ctx, d.User, d.Device, quiet)
	if err != nil || len(devices) == 0 {
		return err
	}
	if err := t.store.ForgetDevices(ctx, d.User, devices, quiet); err != nil {
		return err
	}
	t.metrics.devicesTrimmed.WithLabelValues("forgotten").Add(float64(len(devices)))
	return nil
}
