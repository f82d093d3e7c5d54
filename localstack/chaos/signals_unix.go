//go:build unix

package chaos

import (
	"os"
	"os/exec"
	"syscall"
)

// The signals that a scenario sends.
var (
	sigFreeze os.Signal = syscall.SIGSTOP
	sigThaw   os.Signal = syscall.SIGCONT
	sigStop   os.Signal = syscall.SIGTERM
)

// alone puts cmd into a group of its own, so that a Ctrl-C at the terminal
// reaches the harness only.
func alone(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
}

// smallBuffer keeps the kernel from taking much for a reader that does not read.
func smallBuffer(fd uintptr) {
	_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10)
}
