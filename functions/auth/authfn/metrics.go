package authfn

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	verifications *prometheus.CounterVec
	mints         *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg) // nil reg: metrics work but are not registered
	return &metrics{
		verifications: f.NewCounterVec(prometheus.CounterOpts{
			Name: "auth_verifications_total", Help: "Tokens that were judged, by result."},
			[]string{"result"}), // ok, expired, invalid, unavailable
		mints: f.NewCounterVec(prometheus.CounterOpts{
			Name: "auth_mints_total", Help: "Requests for a token, by outcome."},
			[]string{"outcome"}), // minted, rejected, unauthorized, no_key, failed
	}
}
