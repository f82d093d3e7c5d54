package serve

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// UntilStopped returns a context that ends with the first SIGINT or SIGTERM, or
// when the terminal closes (SIGHUP), unless the program was started to outlive
// that, as nohup does. From then on a second SIGINT or SIGTERM ends the process at
// once, but nothing that a terminal does as it closes: shells send a SIGHUP of
// their own, and whoever read the output is gone. stop gives signals back, and
// must be called.
func UntilStopped(parent context.Context) (ctx context.Context, stop context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	wanted := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		wanted = append(wanted, syscall.SIGHUP)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, wanted...)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-signals:
			signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE) // before anybody writes that it stops
		case <-ctx.Done():
		}
		signal.Stop(signals)
		cancel()
	}()
	return ctx, func() {
		cancel()
		<-ended
	}
}
