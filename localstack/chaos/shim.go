package chaos

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

//go:embed shim/clock.c
var shimSource []byte

// needShim says why Redis' clock cannot be moved here, or nothing.
func needShim() string {
	if runtime.GOOS != "linux" {
		return "moving Redis' clock needs Linux"
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		return "moving Redis' clock needs gcc"
	}
	return ""
}

// buildShim compiles the shim that moves a program's clock and returns its path.
func buildShim(ctx context.Context, dir string) (string, error) {
	source, shim := filepath.Join(dir, "clock.c"), filepath.Join(dir, "clock.so")
	if err := os.WriteFile(source, shimSource, 0o600); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "gcc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("compile the clock shim: %w\n%s", err, out)
	}
	return shim, nil
}
