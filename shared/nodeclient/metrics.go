package nodeclient

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushcluster/shared/telemetry"
)

// What happened to streams.
const (
	streamOpened  = "opened"
	streamRefused = "refused" // somebody answered who has none to offer; batches go as requests for a while
	streamFailed  = "failed"  // nobody answered, or another node
	streamBroken  = "broken"  // it ended with batches under way, which go again as requests
	streamLate    = "late"    // a batch missed its deadline, so the stream was dropped
)

type metrics struct {
	streams *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{streams: telemetry.Counters(promauto.With(reg), "dispatch_node_streams_total", "What happened to streams to nodes, by event.",
		"event", streamOpened, streamRefused, streamFailed, streamBroken, streamLate)}
}
