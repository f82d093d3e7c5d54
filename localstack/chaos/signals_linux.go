package chaos

import "syscall"

// dieWithParent ends the process when the harness is gone, whatever ended it.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
