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
			before := nextCollection()
			restore := moreGarbage(tt.size, func(name string) string {
				if name == tt.env {
					return "100"
				}
				return ""
			})
			during := nextCollection()
			restore()
			if more := during >= before+2*size*9/10; more != tt.want {
				t.Errorf("the next collection was due at %d bytes, then at %d; later by twice %d: %v, want %v", before, during, size, more, tt.want)
			}
			if after := nextCollection(); after > before+size {
				t.Errorf("the next collection was due at %d bytes, and is at %d afterwards", before, after)
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
