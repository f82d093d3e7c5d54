package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// runSDK starts a stack and runs a program of an SDK in dir, which tests the
// stack that the file STACK_JSON tells of and fails as the program does.
func runSDK(t *testing.T, dir, program string, args ...string) {
	t.Helper()
	noteFiles(t, dir)
	facts, err := start(t).Facts()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "stack.json")
	if err := facts.Write(file); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "STACK_JSON="+file)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	t.Logf("%s", out)
}

// noteFiles looks at the files in dir, so that go test takes a result from its
// cache only while they are as they were: it does not see what a program reads.
func noteFiles(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if _, err := os.Stat(filepath.Join(dir, f.Name())); err != nil {
			t.Fatal(err)
		}
	}
}
