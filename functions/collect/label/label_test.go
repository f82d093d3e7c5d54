package label

import (
	"fmt"
	"testing"

	"pushcluster/functions/collect/source"
)

func TestSet(t *testing.T) {
	s := New(2)
	for _, step := range []struct{ name, want string }{
		{"a", "a"}, {"", ""}, {"b", "b"}, {"c", Other}, {"a", "a"}, {"", ""}, {"b", "b"},
	} {
		if got := s.Of(step.name); got != step.want {
			t.Errorf("the label of %q is %q, want %q", step.name, got, step.want)
		}
	}
}

// TestSources: every source that can be there at once has a label of its own.
func TestSources(t *testing.T) {
	s := Sources()
	for i := range 2 * source.MaxStored {
		if name := fmt.Sprint("s", i); s.Of(name) != name {
			t.Fatalf("source %d is %q", i, s.Of(name))
		}
	}
	if got := s.Of("one more"); got != Other {
		t.Errorf("one more is %q, want other", got)
	}
}
