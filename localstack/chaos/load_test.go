package chaos

import "testing"

func TestAcceptedIn(t *testing.T) {
	tests := map[string]struct {
		answer string
		n      int
		want   string // a letter for each message: y or n
	}{
		"one":              {`{"id":"a"}`, 1, "y"},
		"all":              {`[{"id":"a"},{"id":"b"}]`, 2, "yy"},
		"one is a problem": {`[{"id":"a"},{"type":"about:blank","status":503,"code":"unavailable"}]`, 2, "yn"},
		"too few":          {`[{"id":"a"}]`, 2, "nn"},
		"no array":         {`{"id":"a"}`, 2, "nn"},
		"no JSON":          {`nonsense`, 2, "nn"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := ""
			for _, ok := range acceptedIn([]byte(tt.answer), tt.n) {
				got += map[bool]string{true: "y", false: "n"}[ok]
			}
			if got != tt.want {
				t.Errorf("accepted in %s: %s, want %s", tt.answer, got, tt.want)
			}
		})
	}
}
