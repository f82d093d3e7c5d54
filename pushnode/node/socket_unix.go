//go:build unix

package node

import (
	"errors"
	"syscall"
)

// writeNow writes as much of p as the kernel takes without waiting.
func writeNow(raw syscall.RawConn, p []byte) (n int, err error) {
	outer := raw.Write(func(fd uintptr) bool {
		for n < len(p) {
			var m int
			m, err = syscall.Write(int(fd), p[n:])
			if m > 0 {
				n += m
			}
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if err != nil {
				break
			}
		}
		return true // never wait
	})
	if errors.Is(err, syscall.EAGAIN) {
		err = nil
	}
	if err == nil {
		err = outer
	}
	return n, err
}
