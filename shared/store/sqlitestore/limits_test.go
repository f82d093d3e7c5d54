package sqlitestore

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// See Store.prepared.
func TestLimitsAreNoBareParameters(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("the package's files are %v, %v", files, err)
	}
	bare := regexp.MustCompile(`LIMIT \?\d*(?: \+ 0)?`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, limit := range bare.FindAllString(string(text), -1) {
			if !strings.HasSuffix(limit, " + 0") && !strings.HasSuffix(file, "_test.go") {
				t.Errorf("%s has %q, want %q", file, limit, limit+" + 0")
			}
		}
	}
}
