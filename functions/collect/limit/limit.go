// Package limit says how often somebody may send, and judges whether they do:
// in Redis for all processes together, or in this process alone.
package limit

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"pushcluster/shared/registry"
)

// Bounds of a rate.
const (
	MaxRates  = 4         // of one source, or of one API key
	maxCount  = 1_000_000 // requests in a period, and at once
	maxPerSec = 100_000
)

var periods = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}

// ParseRate reads a rate like "100/s", "6000/m", "10000/h" or "1000000/d". As
// many requests as it names may come at once, unless burst says otherwise; 0
// does not.
func ParseRate(text string, burst int) (registry.Rate, error) {
	count, per, _ := strings.Cut(text, "/")
	n, err := strconv.Atoi(count)
	period, known := periods[per]
	if err != nil || !known || n < 1 || n > maxCount || count[0] < '1' { // no sign, no zeros before it
		return registry.Rate{}, fmt.Errorf(`a rate is a number from 1 to %d and /s, /m, /h or /d, as in "100/s"`, maxCount)
	}
	if float64(n)/period.Seconds() > maxPerSec {
		return registry.Rate{}, fmt.Errorf("a rate is at most %d/s", maxPerSec)
	}
	if burst < 0 || burst > maxCount {
		return registry.Rate{}, fmt.Errorf("burst is a number from 1 to %d", maxCount)
	}
	if burst == 0 {
		burst = n
	}
	return registry.Rate{Count: n, Per: period, Burst: burst}, nil
}

// Text returns a rate as [ParseRate] reads it, without its burst.
func Text(r registry.Rate) string {
	for name, period := range periods {
		if period == r.Per {
			return strconv.Itoa(r.Count) + "/" + name
		}
	}
	return fmt.Sprintf("%d/%s", r.Count, r.Per)
}
