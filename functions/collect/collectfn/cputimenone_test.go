//go:build !unix

package collectfn

import (
	"testing"
	"time"
)

// cpuTime is the time on the wall where nobody tells that of processors.
func cpuTime(testing.TB) time.Duration { return time.Duration(time.Now().UnixNano()) }
