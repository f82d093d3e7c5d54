//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package sqlitestore

import (
	"os"
	"syscall"
)

// A turn says which process is the next to write. It is a lock on a file
// beside the database, held only while its holder waits for SQLite's own write
// lock, and gone with its holder. It makes writers take turns and guards
// nothing: where it does not work, writing is merely less fair.
type turn struct {
	file *os.File // nil: none to be had
	held bool
}

func openTurn(path string) *turn {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return &turn{}
	}
	return &turn{file: f}
}

// take reports whether this process has the turn. It does not wait.
func (t *turn) take() bool {
	if t.file == nil || t.held {
		return true
	}
	err := syscall.Flock(int(t.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	t.held = err == nil
	return err != syscall.EWOULDBLOCK && err != syscall.EINTR
}

// release gives the turn to whoever takes it next.
func (t *turn) release() {
	if t.held {
		t.held = syscall.Flock(int(t.file.Fd()), syscall.LOCK_UN) != nil
	}
}

func (t *turn) close() {
	if t.file != nil {
		_ = t.file.Close()
	}
}
