package serve

import (
	"cmp"
	"errors"
	"fmt"
	"net"
)

// ErrConfig marks an error of a [Program]'s Run as one of the configuration: the
// program ends with 2, as after one of [Load].
var ErrConfig = errors.New("it cannot be used")

// Named returns err behind the variable that it is about, as [Load] wants the
// errors of a Check; nil if err is nil.
func Named(variable string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", variable, err)
}

// Between returns nil if v is neither below low nor above high.
func Between[T cmp.Ordered](v, low, high T) error {
	if v < low || v > high {
		return fmt.Errorf("%v is not between %v and %v", v, low, high)
	}
	return nil
}

// CheckListen returns nil if addr is [host]:port, where the port is a number or
// the name of a service. It does not look the host up.
func CheckListen(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return fmt.Errorf("%q is not [host]:port", addr)
	}
	return nil
}
