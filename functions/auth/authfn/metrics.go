package authfn

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	verifications *prometheus.CounterVec
	good          prometheus.Counter // of them, looked up once
	mints         *prometheus.CounterVec
	lists         *prometheus.CounterVec
	revoked       prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg) // nil reg: metrics work but are not registered
	m := &metrics{
		verifications: f.NewCounterVec(prometheus.CounterOpts{
			Name: "auth_verifications_total", Help: "Tokens that were judged, by result."},
			[]string{"result"}), // ok, expired, invalid, revoked, unavailable
		mints: f.NewCounterVec(prometheus.CounterOpts{
			Name: "auth_mints_total", Help: "Requests for a token, by outcome."},
			[]string{"outcome"}), // minted, rejected, unauthorized, no_key, failed
		lists: f.NewCounterVec(prometheus.CounterOpts{
			Name: "auth_revocation_reads_total", Help: "Reads of what is revoked, by outcome."},
			[]string{"outcome"}), // ok, failed
		revoked: f.NewGauge(prometheus.GaugeOpts{
			Name: "auth_revocations", Help: "How many users and tokens are revoked, as last read."}),
	}
	m.good = m.verifications.WithLabelValues(resultOK)
	return m
}

// resultOK is the result of a token that counts.
const resultOK = "ok"

// judged counts a token.
func (m *metrics) judged(result string) {
	if result == resultOK {
		m.good.Inc()
		return
	}
	m.verifications.WithLabelValues(result).Inc()
}
