package verify

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	answers *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	retries prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg) // nil reg: metrics work but are not registered
	return &metrics{
		answers: f.NewCounterVec(prometheus.CounterOpts{
			Name: "pushnode_token_answers_total", Help: "Tokens that connections came with, by what they got and from where."},
			[]string{"outcome", "source"}), // ok, expired, invalid, unavailable; auth, cache, shape (not worth asking)
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pushnode_auth_seconds", Help: "Time that Auth took for a question, a retry included, by outcome.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 4}},
			[]string{"outcome"}), // ok, expired, invalid, unavailable, no_answer
		retries: f.NewCounter(prometheus.CounterOpts{
			Name: "pushnode_auth_retries_total", Help: "Questions to Auth that were sent twice because the connection failed."}),
	}
}

func (m *metrics) answered(source string, err error) {
	m.answers.WithLabelValues(outcome(err), source).Inc()
}

func (m *metrics) asked(outcome string, start time.Time) {
	m.seconds.WithLabelValues(outcome).Observe(time.Since(start).Seconds())
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrExpired):
		return "expired"
	case errors.Is(err, ErrInvalid):
		return "invalid"
	}
	return "unavailable"
}
