package serve

import "runtime"

// ServiceGarbage is the [Program.Garbage] of a service: what is alive in one is a
// few MiB, so that by Go's own rule, which lets as much garbage gather as is alive,
// it would collect many times a second under load, each time at the cost of
// whoever waits for an answer at that moment.
const ServiceGarbage = 64 << 20

// moreGarbage lets size bytes of garbage gather beyond what Go's rule allows,
// until restore is called. It does nothing where the environment says when to
// collect: by GOGC, or by GOMEMLIMIT, which is for a process that is to stay small.
//
// It allocates so many bytes and never touches them: they count as alive, and
// take no memory of the machine's. A percentage would do the same while little is
// alive, and ask for many times the memory when much is.
func moreGarbage(size int, getenv func(string) string) (restore func()) {
	if size == 0 || getenv("GOGC") != "" || getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	untouched := make([]byte, size)
	return func() { runtime.KeepAlive(untouched) }
}
