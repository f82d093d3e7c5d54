package store

import (
	"cmp"
	"slices"
	"time"

	"pushcluster/shared/push"
)

// MaxDevices is how many devices of a user keep their cursors however long they
// are away, as [CursorIdle] has it. Those beyond are forgotten.
const MaxDevices = 100

// DeviceQuiet is how long a device was not seen, at least, before it may be
// forgotten for others. Whoever is connected is seen more often than that.
const DeviceQuiet = 24 * time.Hour

const (
	// MaxSeen is how many devices a call of QuietDevices looks at. Of those beyond
	// MaxDevices among them at least as many are beyond it among all.
	MaxSeen = 500

	// maxForgotten is how many devices a call of QuietDevices returns.
	maxForgotten = 20
)

// A SeenDevice is a device, and when its personal cursor was updated.
type SeenDevice struct {
	Device push.Device
	At     time.Time
}

// Quiet returns what QuietDevices does of seen, for the homes of the store. It
// sorts seen.
func Quiet(seen []SeenDevice, quiet time.Time) []push.Device {
	slices.SortFunc(seen, func(a, b SeenDevice) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Device, b.Device))
	})
	var devices []push.Device
	for i := 0; i < len(seen)-MaxDevices && len(devices) < maxForgotten && !seen[i].At.After(quiet); i++ {
		devices = append(devices, seen[i].Device)
	}
	return devices
}

// ForgottenBefore is the time from which on a cursor was updated that
// ForgetDevices leaves.
func ForgottenBefore(quiet time.Time) time.Time { return quiet.Add(DeviceQuiet / 2) }
