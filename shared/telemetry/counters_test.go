package telemetry

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestCounters shows that what has not happened yet is told as 0, and that what
// nobody named counts all the same.
func TestCounters(t *testing.T) {
	reg := prometheus.NewRegistry()
	lost := Counters(promauto.With(reg), "lost_total", "What was lost.", "reason", "full", "late")
	lost.WithLabelValues("late").Inc()
	lost.WithLabelValues("other").Add(2)
	const want = `
# HELP lost_total What was lost.
# TYPE lost_total counter
lost_total{reason="full"} 0
lost_total{reason="late"} 1
lost_total{reason="other"} 2
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
