package token

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushcluster/shared/telemetry"
)

type jwksMetrics struct {
	fetches *prometheus.CounterVec
	keys    prometheus.Gauge
}

func newJWKSMetrics(reg prometheus.Registerer) *jwksMetrics {
	f := promauto.With(reg) // nil reg: metrics work but are not registered
	return &jwksMetrics{
		fetches: telemetry.Counters(f, "token_jwks_fetches_total", "Fetches of the JWKS, by outcome.",
			"outcome", "ok", "failed", "too_soon"), // too_soon: was not even tried
		keys: f.NewGauge(prometheus.GaugeOpts{
			Name: "token_jwks_keys", Help: "Keys that the JWKS held when it was last fetched."}),
	}
}
