package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestJavaScriptSDK runs js/sdk.test.mjs: the official SDK for JavaScript on
// two nodes. `make test` installs it; without it the test is skipped.
func TestJavaScriptSDK(t *testing.T) {
	node := need(t, "node")
	if _, err := os.Stat("js/node_modules/centrifuge"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the SDK is not installed (npm ci in localstack/e2e/js), and CI=true: %v", err)
		}
		t.Skip("skipped: the SDK is not installed; `make test` does it (npm ci in localstack/e2e/js)")
	}
	s := start(t)
	facts, err := s.Facts()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "stack.json")
	if err := facts.Write(file); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, "--test", "--test-reporter=spec", "sdk.test.mjs")
	cmd.Dir = "js"
	cmd.Env = append(os.Environ(), "STACK_JSON="+file)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("node --test: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}
