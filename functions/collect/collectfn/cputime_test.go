//go:build unix

package collectfn

import (
	"syscall"
	"testing"
	"time"
)

// cpuTime returns how long this process has used processors: what a thing costs,
// whatever else runs on the machine.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
