package e2e

import (
	"os"
	"path/filepath"
	"testing"
)

// TestPythonSDK runs python/sdk_test.py: the official SDK for Python on two
// nodes. `make test` installs it; without it the test is skipped.
func TestPythonSDK(t *testing.T) {
	if _, err := os.Stat("python/.venv/.done"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the SDK is not installed (make localstack/e2e/python/.venv/.done), and CI=true: %v", err)
		}
		t.Skip("skipped: the SDK is not installed; `make test` does it, with Python 3.11 or newer")
	}
	runSDK(t, "python", filepath.Join(".venv", "bin", "python"), "-B", "-m", "unittest", "-v", "sdk_test")
}
