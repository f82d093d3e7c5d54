package serve

import (
	"runtime/debug"
	"testing"
)

func TestSetGC(t *testing.T) {
	now := func() int {
		percent := debug.SetGCPercent(100)
		debug.SetGCPercent(percent)
		return percent
	}
	before := now()
	tests := map[string]struct {
		percent int
		env     string
		want    int
	}{
		"a service":                   {ServiceGC, "", ServiceGC},
		"a program that says nothing": {0, "", before},
		"GOGC is set":                 {ServiceGC, "GOGC", before},
		"GOMEMLIMIT is set":           {ServiceGC, "GOMEMLIMIT", before},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			restore := setGC(tt.percent, func(name string) string {
				if name == tt.env {
					return "100"
				}
				return ""
			})
			if got := now(); got != tt.want {
				t.Errorf("collects at %d percent, want %d", got, tt.want)
			}
			restore()
			if got := now(); got != before {
				t.Errorf("afterwards collects at %d percent, want %d", got, before)
			}
		})
	}
}
