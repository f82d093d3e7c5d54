package verify

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushcluster/shared/telemetry"
)

// A source is where an answer came from.
type source string

const (
	fromAuth  source = "auth"
	fromCache source = "cache"
	fromShape source = "shape" // it was not worth asking
)

type metrics struct {
	answers  *prometheus.CounterVec
	cached   prometheus.Counter // the most frequent of the answers, looked up once
	fresh    prometheus.Counter // the second most
	seconds  *prometheus.HistogramVec
	good     prometheus.Observer // those of good tokens, looked up once
	retries  prometheus.Counter
	requests *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg) // nil reg: metrics work but are not registered
	m := &metrics{
		answers: f.NewCounterVec(prometheus.CounterOpts{
			Name: "pushnode_token_answers_total", Help: "Tokens that connections came with, by what they got and from where."},
			[]string{"outcome", "source"}), // ok, expired, invalid, unavailable; auth, cache, shape (not worth asking)
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pushnode_auth_seconds", Help: "Time that Auth took for a token, a retry included, by outcome.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2, 4}},
			[]string{"outcome"}), // ok, expired, invalid, unavailable, no_answer
		retries: f.NewCounter(prometheus.CounterOpts{
			Name: "pushnode_auth_retries_total", Help: "Requests to Auth that were sent twice because the connection failed."}),
		requests: telemetry.Counters(f, "pushnode_auth_requests_total", "Requests to Auth about tokens, by form.",
			"form", "single", "batch", "refused"), // refused: a batch that Auth did not take; its tokens were asked about singly
	}
	m.good = m.seconds.WithLabelValues(outcome(nil))
	m.cached = m.answers.WithLabelValues(outcome(nil), string(fromCache))
	m.fresh = m.answers.WithLabelValues(outcome(nil), string(fromAuth))
	for _, err := range []error{ErrExpired, ErrInvalid, ErrUnavailable} { // from 0, as telemetry.Counters has it
		m.answers.WithLabelValues(outcome(err), string(fromAuth))
	}
	return m
}

func (m *metrics) answered(from source, err error) {
	switch {
	case err == nil && from == fromCache:
		m.cached.Inc()
	case err == nil && from == fromAuth:
		m.fresh.Inc()
	default:
		m.answers.WithLabelValues(outcome(err), string(from)).Inc()
	}
}

func (m *metrics) asked(outcome string, start time.Time) {
	if outcome == "ok" {
		m.good.Observe(time.Since(start).Seconds())
		return
	}
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
