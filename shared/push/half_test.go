package push

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestHasHalfCharacter(t *testing.T) {
	tests := map[string]struct {
		raw  string
		want bool
	}{
		"none":                 {`"a"`, false},
		"another escape":       {`"\u00e9\n\ue000"`, false},
		"a first half":         {`"\ud800"`, true},
		"in capitals":          {`"\uD800"`, true},
		"a second half":        {`["a",{"b":"c\udc00"}]`, true},
		"both":                 {`"\ud83d\ude00"`, false},
		"both, and one":        {`"\ud83d\uDE00\ud83d"`, true},
		"in the wrong order":   {`"\ude00\ud83d"`, true},
		"apart":                {`"\ud83d \ude00"`, true},
		"behind a backslash":   {`"\\\ud800"`, true},
		"of backslash and ud8": {`"\\ud800"`, false},
		"cut off":              {`"\ud8`, false},
		"a backslash at last":  {`"\ud83d\ude00\`, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := HasHalfCharacter([]byte(tt.raw)); got != tt.want {
				t.Errorf("HasHalfCharacter(%s) = %v, want %v", tt.raw, got, tt.want)
			}
		})
	}
}

// FuzzHasHalfCharacter: it is true of a JSON string if, and only if, decoding puts
// U+FFFD where the string says nothing of it.
func FuzzHasHalfCharacter(f *testing.F) {
	for _, seed := range []string{`\ud800`, `\ud83d\ude00`, `\\ud800`, `\uD8`, `\\\udc00`, `\ud83d\ud83d\ude00`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		raw := []byte(`"` + text + `"`)
		got := HasHalfCharacter(raw)
		var decoded string
		if json.Unmarshal(raw, &decoded) != nil || !utf8.ValidString(text) || HasReplacement(text) || strings.Contains(strings.ToLower(text), "fffd") {
			return
		}
		if want := HasReplacement(decoded); got != want {
			t.Errorf("HasHalfCharacter(%s) = %v, want %v: it reads %q", raw, got, want, decoded)
		}
	})
}
