//go:build nointernal

package telemetry

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
)

// Internal returns an empty handler: a Lambda function, which this build tag is
// for, has no internal port, and its binary leaves out what would serve one. Its
// figures go out as [EMF].
func Internal(*prometheus.Registry) *http.ServeMux { return http.NewServeMux() }

// processCollectors are none: Lambda has its own figures of a function.
func processCollectors() []prometheus.Collector { return nil }
