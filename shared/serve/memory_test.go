package serve

import (
	"runtime"
	"testing"
)

func TestMoreGarbage(t *testing.T) {
	const size = 32 << 20
	tests := map[string]struct {
		size int
		env  string
		want bool
	}{
		"a service":                   {size, "", true},
		"a program that says nothing": {0, "", false},
		"GOGC is set":                 {size, "GOGC", false},
		"GOMEMLIMIT is set":           {size, "GOMEMLIMIT", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			restore := moreGarbage(tt.size, func(name string) string {
				if name == tt.env {
					return "100"
				}
				return ""
			})
			during := nextCollection()
			restore()
			if more := during >= 2*size; more != tt.want {
				t.Errorf("the next collection is due at %d bytes, above twice %d: %v, want %v", during, size, more, tt.want)
			}
			if after := nextCollection(); after >= 2*size {
				t.Errorf("afterwards the next collection is due at %d bytes", after)
			}
		})
	}
}

// nextCollection returns at how many bytes of heap garbage is collected next.
func nextCollection() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.NextGC
}
