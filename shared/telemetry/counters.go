package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Counters returns counters with one label, those of values at 0. A counter that
// appears with its first event hides that event from rate and increase, and from
// every alarm that is built on them (Prometheus, Instrumentation, "Avoid missing
// metrics"); so whatever values are known beforehand are to be named.
func Counters(f promauto.Factory, name, help, label string, values ...string) *prometheus.CounterVec {
	vec := f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	for _, v := range values {
		vec.WithLabelValues(v)
	}
	return vec
}
