package collectfn

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushcluster/shared/push"
	"pushcluster/shared/telemetry"
)

type metrics struct {
	messages       *prometheus.CounterVec
	refused        *prometheus.CounterVec
	outbox         *prometheus.CounterVec
	orders         *prometheus.CounterVec
	webhooks       *prometheus.CounterVec
	ruleErrors     *prometheus.CounterVec
	deliveries     *prometheus.CounterVec
	replays        *prometheus.CounterVec
	commands       *prometheus.CounterVec
	limits         *prometheus.CounterVec
	sources        sourceMetrics
	handoffSeconds prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		messages: telemetry.Counters(f, "collect_messages_total",
			"Messages by outcome: accepted, repeated, or the code of the problem.",
			"outcome", "accepted", "repeated"),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "collect_requests_refused_total",
			Help: "Requests refused as a whole, by the code of the problem."},
			[]string{"code"}),
		outbox: telemetry.Counters(f, "collect_outbox_total",
			"Messages for the outbox, by reason: scheduled, unconfirmed, behind, unknown, break; failed counts those it did not take.",
			"reason", reasonScheduled, reasonUnconfirmed, reasonBehind, reasonUnknown, reasonBreak, reasonFailed),
		orders: f.NewCounterVec(prometheus.CounterOpts{
			Name: "collect_orders_total",
			Help: "Questions and orders about messages and users that were carried out, by kind; refused ones count as requests refused."},
			[]string{"order"}), // state, cancel, user, nodes, kick, revoke, parked, replay, discard, sources, put_source, delete_source, deliveries, delivery, replay_delivery, replay_range, dry_run, callbacks, replay_callback, discard_callback
		webhooks: f.NewCounterVec(prometheus.CounterOpts{
			Name: "collect_webhooks_total",
			Help: "Deliveries by source and outcome: accepted, repeated, no_rule_matched, nobody, parked, challenge, unknown_source, or the code of the problem."},
			[]string{"source", "outcome"}), // sources are those of the file
		ruleErrors: f.NewCounterVec(prometheus.CounterOpts{
			Name: "collect_rule_errors_total",
			Help: "Rules that could not be evaluated for a delivery, by kind: missing, type, cost, time, result."},
			[]string{"source", "rule", "kind"}),
		deliveries: f.NewCounterVec(prometheus.CounterOpts{
			Name: "collect_deliveries_total",
			Help: "Records of deliveries by source and what was done: kept, hash (without a body), failed (the store did not take it), trimmed (over the bounds of the source)."},
			[]string{"source", "done"}),
		replays: f.NewCounterVec(prometheus.CounterOpts{
			Name: "collect_replays_total",
			Help: "Deliveries that were replayed, by source and outcome: accepted, no_rule_matched, nobody, parked, skipped."},
			[]string{"source", "outcome"}),
		commands: f.NewCounterVec(prometheus.CounterOpts{
			Name: "collect_commands_total",
			Help: "Commands of the Centrifugo server API, by method (request: refused as a whole) and outcome: ok, or the code of the error."},
			[]string{"method", "outcome"}),
		limits: f.NewCounterVec(prometheus.CounterOpts{
			Name: "collect_limits_total",
			Help: "Requests that have a limit, by whose it is (source, key) and outcome: passed, refused, or unjudged because Redis is away."},
			[]string{"of", "outcome"}),
		sources: newSourceMetrics(f),
		handoffSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "collect_handoff_seconds", Help: "Time to hand messages to Dispatch, confirmed or not.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}}),
	}
	for _, of := range []string{limitOfSource, limitOfKey} {
		for _, outcome := range []string{limitPassed, limitRefused, limitUnjudged} {
			m.limits.WithLabelValues(of, outcome) // from 0, as telemetry.Counters has it
		}
	}
	return m
}

// message counts a message that was refused with code, one of push.Codes.
func (m *metrics) message(code push.Code) { m.messages.WithLabelValues(string(code)).Inc() }

// webhook counts a delivery of a source.
func (m *metrics) webhook(source, outcome string) {
	m.webhooks.WithLabelValues(m.sources.label(source), outcome).Inc()
}

// delivery counts records of deliveries of a source.
func (m *metrics) delivery(source, done string, records int) {
	m.deliveries.WithLabelValues(m.sources.label(source), done).Add(float64(records))
}
