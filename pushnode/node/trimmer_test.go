package node

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushcluster/shared/store"
)

// Who connects never waits for the trimmer, and what waits for it is bounded.
func TestTrimmerIsBounded(t *testing.T) {
	n := crowd(t, 0)
	m := newMetrics(prometheus.NewRegistry(), n)
	tr := &trimmer{metrics: m, wake: make(chan struct{}, 1)}
	for range maxNewDevices + 7 {
		tr.begins(store.UserDevice{User: "42", Device: "new"})
	}
	if got := testutil.ToFloat64(m.devicesTrimmed.WithLabelValues("skipped")); len(tr.waiting) != maxNewDevices || got != 7 {
		t.Errorf("%d wait and %v were skipped, want %d and 7", len(tr.waiting), got, maxNewDevices)
	}
}
