package serve

import (
	"strings"
	"testing"
	"time"
)

func TestCheckListen(t *testing.T) {
	for addr, good := range map[string]bool{
		":8701": true, "127.0.0.1:0": true, "[::1]:8701": true, "host:8701": true,
		"": false, "8701": false, "host": false, "host:notaport": false, ":::": false, ":65536": false,
	} {
		if err := CheckListen(addr); (err == nil) != good {
			t.Errorf("CheckListen(%q) = %v, want good: %t", addr, err, good)
		}
	}
}

func TestBetween(t *testing.T) {
	for v, good := range map[time.Duration]bool{
		-time.Second: false, 0: false, time.Second: true, time.Minute: true, time.Minute + 1: false,
	} {
		err := Named("PACE", Between(v, time.Second, time.Minute))
		if (err == nil) != good || err != nil && !strings.HasPrefix(err.Error(), "PACE: "+v.String()+" is not between 1s and 1m0s") {
			t.Errorf("Between(%s, 1s, 1m) = %v, want good: %t", v, err, good)
		}
	}
}
