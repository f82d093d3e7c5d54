//go:build !chaos

package clock

import "time"

// Now returns the machine's clock.
func Now() func() time.Time { return time.Now }
