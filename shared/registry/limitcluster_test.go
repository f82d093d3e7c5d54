package registry_test

import (
	"fmt"
	"testing"
	"time"

	"pushcluster/shared/registry"
)

// TestLimiterOnCluster judges several limits of one subject where keys are spread
// over servers: those of one subject are on one.
func TestLimiterOnCluster(t *testing.T) {
	servers := cluster(t)
	l, err := registry.OpenLimiter("redis+cluster://"+servers[0].Addr()+","+servers[1].Addr(), registry.LimiterConfig{Timeout: 15 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	rates := []registry.Rate{{Count: 100, Per: time.Hour, Burst: 100}, {Count: 2, Per: 24 * time.Hour, Burst: 2}}
	for i := range 6 { // some of them on each server
		subject := fmt.Sprint("source:", i)
		passed := 0
		for range 3 {
			v, err := l.Take(t.Context(), subject, rates)
			if err != nil {
				t.Fatal(err)
			}
			if v.Passes {
				passed++
			}
		}
		if passed != 2 {
			t.Errorf("%d requests of %s passed, want 2", passed, subject)
		}
	}
}
