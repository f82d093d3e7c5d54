package chaos

import (
	"os"
	"os/exec"
)

// Windows has none of these signals: scenarios that need them fail there.
var (
	sigFreeze os.Signal = os.Kill
	sigThaw   os.Signal = os.Kill
	sigStop   os.Signal = os.Kill
)

func alone(*exec.Cmd) {}

func smallBuffer(uintptr) {}
