//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package storetest

import (
	"os"
	"syscall"
)

// lockFile waits for the lock on f, which lasts until f is closed.
func lockFile(f *os.File) error {
	for {
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			return err
		}
	}
}
