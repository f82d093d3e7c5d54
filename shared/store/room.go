package store

import (
	"cmp"
	"slices"
	"time"

	"pushcluster/shared/push"
)

// MaxDevices is how many devices of a user have cursors.
const MaxDevices = 100

// DeviceQuiet is how long none of a device's cursors was moved or touched before
// the device may be forgotten for a new one.
const DeviceQuiet = 20 * time.Minute

// TouchEvery is how often a node, at least, advances a cursor of each device that
// is connected to it, moved or not: so no such device is ever quiet.
const TouchEvery = DeviceQuiet / 2

// Crowded says what [MaxDevices] cost, in devices.
type Crowded struct {
	Forgotten int // were quiet, and gave their places to others
	Unkept    int // are new and found no place; the next call with a cursor of theirs may find one
}

// Add adds what another call cost.
func (c *Crowded) Add(other Crowded) {
	c.Forgotten += other.Forgotten
	c.Unkept += other.Unkept
}

// A KnownDevice is a device that has cursors.
type KnownDevice struct {
	Device    push.Device
	UpdatedAt time.Time // of the cursor that was advanced last
}

// Room returns which devices of a user make room for fresh ones at now, those
// that were quiet longest, and which fresh ones, the last, find none. It sorts known.
func Room(known []KnownDevice, fresh []push.Device, now time.Time) (forgotten, unkept []push.Device) {
	excess := len(known) + len(fresh) - MaxDevices
	if excess <= 0 {
		return nil, nil
	}
	slices.SortFunc(known, func(a, b KnownDevice) int {
		return cmp.Or(a.UpdatedAt.Compare(b.UpdatedAt), cmp.Compare(a.Device, b.Device))
	})
	for _, d := range known {
		if len(forgotten) == excess || now.Sub(d.UpdatedAt) < DeviceQuiet {
			break
		}
		forgotten = append(forgotten, d.Device)
	}
	return forgotten, fresh[max(0, len(fresh)-excess+len(forgotten)):]
}
