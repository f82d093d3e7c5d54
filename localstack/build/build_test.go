package build

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestRoot(t *testing.T) {
	list, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Dir(strings.TrimSpace(string(list)))
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "go.mod"), []byte("module example.com/other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ dir, want string }{ // no want: an error
		"the root":        {root, root},
		"a package":       {filepath.Join(root, "shared", "push"), root},
		"a module within": {filepath.Join(root, "localstack", "ferretdb"), root},
		"another project": {other, ""},
		"outside of any":  {t.TempDir(), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Chdir(tt.dir)
			got, err := Root()
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("Root in %s = %q, %v, want %q", tt.dir, got, err, tt.want)
			}
		})
	}
}

// TestProgramsSaysWhatIsWrong builds what is not there.
func TestProgramsSaysWhatIsWrong(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := Programs(t.Context(), root, t.TempDir(), "", "./bench/nothing"); err == nil || !strings.Contains(err.Error(), "bench/nothing") {
		t.Errorf("Programs with ./bench/nothing = %v, want an error that names it", err)
	}
}
