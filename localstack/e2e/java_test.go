package e2e

import (
	"os"
	"os/exec"
	"testing"
)

// TestJavaSDK runs java/Stories.java: the official SDK for Java on two nodes.
// `make test` fetches it where Maven and Java are; elsewhere the test is skipped,
// in CI too, which installs neither for one test.
func TestJavaSDK(t *testing.T) {
	java, err := exec.LookPath("java")
	if err != nil {
		t.Skip("skipped: java is not on PATH")
	}
	if _, err := os.Stat("java/target/.done"); err != nil {
		t.Skip("skipped: the SDK was not fetched; `make test` does it, with Maven")
	}
	// The SDK would ask a proxy for the stack that the environment names.
	runSDK(t, "java", java, "-Dhttp.nonProxyHosts=*", "-DsocksProxyHost=", "-cp", "target/lib/*", "Stories.java")
}
