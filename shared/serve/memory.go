package serve

import "runtime/debug"

// ServiceGC is the [Program.GCPercent] of a service: what is alive in one is a
// few MiB, so that at Go's own 100 it would collect many times a second under
// load, each time at the cost of whoever waits for an answer at that moment.
const ServiceGC = 400

// setGC has the process collect garbage at percent, unless that is 0 or its
// environment says when to: by GOGC, or by GOMEMLIMIT, which is for a process
// that is to stay small. It returns what puts back what was before.
func setGC(percent int, getenv func(string) string) (restore func()) {
	if percent == 0 || getenv("GOGC") != "" || getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	before := debug.SetGCPercent(percent)
	return func() { debug.SetGCPercent(before) }
}
