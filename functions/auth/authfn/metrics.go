package authfn

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushcluster/shared/telemetry"
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
		verifications: telemetry.Counters(f, "auth_verifications_total", "Tokens that were judged, by result.",
			"result", resultOK, "expired", "invalid", "revoked", "unavailable"),
		mints: telemetry.Counters(f, "auth_mints_total", "Requests for a token, by outcome.",
			"outcome", "minted", "rejected", "unauthorized", "no_key", "failed"),
		lists: telemetry.Counters(f, "auth_revocation_reads_total", "Reads of what is revoked, by outcome.",
			"outcome", "ok", "failed"),
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
