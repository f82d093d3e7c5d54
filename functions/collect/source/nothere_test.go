package source

import (
	"context"
	"testing"
)

// A file can be checked where its secrets are not: what else is wrong with it is
// told, and its rules can be tried.
func TestSecretsElsewhere(t *testing.T) {
	nothing := func(context.Context, string) (string, error) { return "", ErrNotHere }
	const head = "sources:\n  a:\n    verify: standard\n    secrets: [env:A, env:B]\n    retired: [env:C]\n"
	c := newCompiler(t)
	set, err := Parse(t.Context(), []byte(head+"    rules: [{to: {all: true}}]\n"), c, nothing)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := set.Source(t.Context(), "a"); err != nil || s.Receiver != nil || len(s.Rules) != 1 {
		t.Errorf("the source is %+v, want one rule and no receiver", s)
	}
	_, err = Parse(t.Context(), []byte(head+"    rules: [{to: {all: 1}}]\n"), c, nothing)
	if faults := Faults(err); len(faults) != 1 || faults[0].Line != 6 {
		t.Errorf("the faults are %v, want one on line 6", faults)
	}
}
