package dispatchfn

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushcluster/shared/telemetry"
)

// What became of a message.
const (
	outcomeConfirmed = "confirmed" // all its places are in the inbox
	outcomeExpired   = "expired"   // confirmed, and sent to nobody
	outcomeInvalid   = "invalid"   // it cannot be dispatched, ever
	outcomeFailed    = "failed"    // not confirmed; whoever handed it off tries again
)

// Who knew that a message had its place in a channel.
const (
	repeatLog   = "log"
	repeatInbox = "inbox"
)

// Why a message was appended again.
const (
	againTerm  = "term"  // the term changed while its inbox was written
	againLoss  = "loss"  // it was under way when Redis lost its memory, and nobody finished it
	againTaken = "taken" // another message had its offset in the inbox
)

// What became of a request to a node, or why entries were not pushed to one.
const (
	pushOK          = "ok"
	pushNoLease     = "no_lease"        // the node is gone, its routes are left to expire
	pushPanic       = "panic"           // a mistake of ours on the way
	pushNoAnswer    = "leases"          // Redis did not say whether it is alive
	pushSkipped     = "slow_node"       // it missed a deadline within the last second
	pushTimeout     = "timeout"         // it missed its deadline
	pushUnreachable = "unreachable"     // nobody answered at its address
	pushOtherNode   = "other_node"      // another incarnation lives there; its routes go
	pushRefused     = "refused"         // it answered with a problem
	pushBadAnswer   = "bad_answer"      // its answer cannot be understood
	pushUnknown     = "unknown_channel" // it has no connection of the channel; the route goes
)

// What became of an entry of the outbox.
const (
	outboxConfirmed = "confirmed"
	outboxRetry     = "retry"
	outboxHeld      = "held" // not tried: an older message of a channel of it waits, or the look had no room or time
	outboxExpired   = "expired"
	outboxParked    = "parked"  // it keeps failing; an operator decides
	outboxMissing   = "missing" // its message is no longer in the store
)

// What failed that is done now and then.
const (
	kindOutbox = "outbox"
	kindStore  = "store"
)

type metrics struct {
	messages *prometheus.CounterVec
	repeats  *prometheus.CounterVec
	again    *prometheus.CounterVec
	requests *prometheus.CounterVec
	unpushed *prometheus.CounterVec
	routes   *prometheus.CounterVec
	outbox   *prometheus.CounterVec
	sweeps   *prometheus.CounterVec
	swept    prometheus.Counter
	entries  prometheus.Counter
	panics   prometheus.Counter
	seconds  prometheus.Histogram

	requestsOK prometheus.Counter // of requests
	confirmed  prometheus.Counter // of messages
}

// request counts a request to a node.
func (m *metrics) request(result string) {
	if result == pushOK {
		m.requestsOK.Inc() // most are, and to look it up costs more than to count
		return
	}
	m.requests.WithLabelValues(result).Inc()
}

// newMetrics returns the metrics, registered unless reg is nil. Every label has
// the values of one of the lists above.
func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		messages: telemetry.Counters(f, "dispatch_messages_total", "Messages handed off, by outcome.",
			"outcome", outcomeConfirmed, outcomeExpired, outcomeInvalid, outcomeFailed),
		repeats: telemetry.Counters(f, "dispatch_repeats_total", "Places that messages had before, by who knew.",
			"by", repeatLog, repeatInbox),
		again: telemetry.Counters(f, "dispatch_appended_again_total", "Places that messages were given anew, by reason.",
			"reason", againTerm, againLoss, againTaken),
		requests: telemetry.Counters(f, "dispatch_node_requests_total", "Requests to nodes, questions included, by result.",
			"result", pushOK, pushTimeout, pushUnreachable, pushOtherNode, pushRefused, pushBadAnswer),
		unpushed: telemetry.Counters(f, "dispatch_entries_not_pushed_total", "Entries not pushed to a node with a route, by reason; it finds them in log or inbox.",
			"reason", pushNoLease, pushPanic, pushNoAnswer, pushSkipped, pushTimeout, pushUnreachable, pushOtherNode, pushRefused, pushBadAnswer, pushUnknown),
		routes: telemetry.Counters(f, "dispatch_routes_removed_total", "Stale routes removed, by reason.",
			"reason", pushUnknown, pushOtherNode),
		outbox: telemetry.Counters(f, "dispatch_outbox_total", "Outbox entries looked at, by outcome.",
			"outcome", outboxConfirmed, outboxRetry, outboxHeld, outboxExpired, outboxParked, outboxMissing),
		sweeps: telemetry.Counters(f, "dispatch_sweep_errors_total", "Looks at the outbox and sweeps of the store that failed, by kind.",
			"kind", kindOutbox, kindStore),
		swept:   f.NewCounter(prometheus.CounterOpts{Name: "dispatch_swept_total", Help: "Records that had outlived their time and were removed."}),
		entries: f.NewCounter(prometheus.CounterOpts{Name: "dispatch_entries_pushed_total", Help: "Entries that nodes took."}),
		panics:  f.NewCounter(prometheus.CounterOpts{Name: "dispatch_panics_total", Help: "Panics of what runs beside requests: batches of several, and parts of any."}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{Name: "dispatch_seconds", Help: "Time to dispatch one request.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
	}
	m.requestsOK, m.confirmed = m.requests.WithLabelValues(pushOK), m.messages.WithLabelValues(outcomeConfirmed)
	return m
}
