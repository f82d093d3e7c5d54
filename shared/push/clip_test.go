package push

import "testing"

func TestClip(t *testing.T) {
	tests := map[string]struct {
		text string
		most int
		want string
	}{
		"short":              {"abc", 3, "abc"},
		"long":               {"abcd", 3, "abc…"},
		"inside a character": {"aäb", 2, "a…"},
		"behind a character": {"aäb", 3, "aä…"},
		"of nothing":         {"", 3, ""},
		"to nothing":         {"abc", 0, "…"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Clip(tt.text, tt.most); got != tt.want {
				t.Errorf("Clip(%q, %d) = %q, want %q", tt.text, tt.most, got, tt.want)
			}
		})
	}
}
