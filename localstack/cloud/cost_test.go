//go:build aws

package cloud

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestTemplateCost shows that the table of docs/cost.md is what its script says.
func TestTemplateCost(t *testing.T) {
	out, err := exec.Command("python3", "../../docs/cost.py").Output()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/cost.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "<!-- cost.py -->\n"+string(out)+"<!-- /cost.py -->") {
		t.Errorf("docs/cost.md does not hold what python3 docs/cost.py prints:\n%s", out)
	}
}
