package dispatchfn

import (
	"errors"
	"runtime/debug"
)

// errPanic is the error of what panicked. It says no more: the log does.
var errPanic = errors.New("panic; the log tells where")

// guard returns f for a goroutine of its own, in which a panic would end the
// process, and with it what others are about to be told. One of f is counted and
// logged, and f returns errPanic then.
func (h *Handler) guard(f func() error) func() error {
	return func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				h.metrics.panics.Inc()
				h.log.Error("panic in a batch", "panic", p, "stack", string(debug.Stack()))
				err = errPanic
			}
		}()
		return f()
	}
}
