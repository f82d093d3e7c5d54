package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"pushcluster/pushctl/cli"
)

// raceOptions have programs with the race detector end when they end, not sleep a
// second before, in which it looks at goroutines that go on.
const raceOptions = "atexit_sleep_ms=0"

// TestMain makes pushctl a program that tests can start, and so can what they
// start: it is this one, under another name.
func TestMain(m *testing.M) {
	os.Setenv("GORACE", raceOptions+" "+os.Getenv("GORACE"))
	testscript.Main(leakless{m}, map[string]func(){
		"pushctl": func() { os.Exit(cli.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// leakless runs tests and fails where they leave a goroutine behind.
type leakless struct{ *testing.M }

// Run runs all tests. The SDK for Go leaves a goroutine of each ping for its
// answer's 5 s; go-redis' attempt to reach a Redis that is away sleeps up to a
// second before it ends.
func (l leakless) Run() int {
	code := l.M.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(
		goleak.IgnoreAnyFunction("github.com/centrifugal/centrifuge-go.(*Client).sendAsync.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"),
	); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
		return 1
	}
	return 0
}
