// Package build builds the project's programs from their source, for the
// harnesses that run them as processes of their own.
package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
)

// four are the programs that every cluster is made of.
var four = []string{"./functions/auth", "./functions/collect", "./functions/dispatch", "./pushnode"}

// ours is what the project's go.mod says, and no other's.
var ours = regexp.MustCompile(`(?m)^module pushcluster$`)

// Root returns the directory of the project's go.mod, at or above the working
// directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if text, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && ours.Match(text) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("the working directory is not inside the project")
		}
		dir = parent
	}
}

// Programs builds Auth, Collect, Dispatch and the push node into dir, as they run
// in earnest but for what the build tags add ("" for none), and with them the
// commands at more, paths from root as "./bench/floors".
func Programs(ctx context.Context, root, dir, tags string, more ...string) error {
	args := append([]string{"build", "-tags", tags, "-o", dir + string(filepath.Separator)}, slices.Concat(four, more)...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
}
