package e2e

import (
	"os"
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
	runSDK(t, "js", node, "--test", "--test-reporter=spec", "sdk.test.mjs")
}
