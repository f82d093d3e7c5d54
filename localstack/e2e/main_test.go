package e2e

import (
	"testing"

	"go.uber.org/goleak"
)

// The SDK for Go leaves a goroutine of each ping for its answer's 5 s; go-redis'
// attempt to reach a Redis that is away sleeps up to a second before it ends.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/centrifugal/centrifuge-go.(*Client).sendAsync.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}
