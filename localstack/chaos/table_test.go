package chaos

import "testing"

func TestRowOK(t *testing.T) {
	tests := map[string]struct {
		row  Row
		want bool
	}{
		"clean":                         {Row{Expected: 1, Received: 1}, true},
		"lost":                          {Row{Lost: 1}, false},
		"reordered":                     {Row{Reordered: 1}, false},
		"replayed":                      {Row{Replayed: 1}, true},
		"repeated":                      {Row{Repeated: 1}, false},
		"moved in a single fault":       {Row{Repeated: 1, moved: 1}, false},
		"moved in a double fault":       {Row{Repeated: 1, moved: 1, Double: true}, true},
		"repeated in a double fault":    {Row{Repeated: 2, moved: 1, Double: true}, false},
		"a promise beside the ledger's": {Row{Wrong: []string{"x"}}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.row.OK(); got != tt.want {
				t.Errorf("OK of %+v = %v, want %v", tt.row, got, tt.want)
			}
		})
	}
}
