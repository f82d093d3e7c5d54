package callback

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushcluster/functions/collect/label"
)

// What becomes of a try to tell an event, or of an entry.
const (
	outcomeTold      = "told"
	outcomeFailed    = "failed"
	outcomePostponed = "postponed"
	outcomeParked    = "parked"
)

type metrics struct {
	callbacks *prometheus.CounterVec
	sources   *label.Set
	errors    prometheus.Counter
	seconds   prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		callbacks: f.NewCounterVec(prometheus.CounterOpts{
			Name: "collect_callbacks_total",
			Help: "Callbacks by source and outcome: told, failed (to be tried again), postponed (it could not be found out how the source is told), parked."},
			[]string{"source", "outcome"}),
		sources: label.Sources(),
		errors: f.NewCounter(prometheus.CounterOpts{
			Name: "collect_callback_sweep_errors_total", Help: "Looks at due callbacks that the store did not let end."}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "collect_callback_seconds", Help: "Time to post one callback, taken or not.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
	}
}

// callback counts a try to tell a source, or an entry of it.
func (m *metrics) callback(source, outcome string) {
	m.callbacks.WithLabelValues(m.sources.Of(source), outcome).Inc()
}
