package node

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
	"pushcluster/shared/telemetry"
)

// metrics are what a node counts. Labels are bounded: outcomes and reasons of
// this package, close reasons of package push.
type metrics struct {
	connects       *prometheus.CounterVec
	connected      prometheus.Counter // those of connects that succeeded, looked up once
	refused        *prometheus.CounterVec
	closed         closedVec
	slow           *prometheus.CounterVec
	dropped        *prometheus.CounterVec
	unasked        prometheus.Counter
	passWaits      prometheus.Counter
	entries        *prometheus.CounterVec
	reads          *prometheus.CounterVec
	catchUps       *prometheus.CounterVec
	leases         *prometheus.CounterVec
	recovered      prometheus.Counter
	badFrames      prometheus.Counter
	errors         prometheus.Counter
	cursorsWritten prometheus.Counter
	cursorsTouched prometheus.Counter
	cursorFailures prometheus.Counter
	devicesTrimmed *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, n *Node) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "pushnode_" + name, Help: help})
	}
	vec := func(name, help, label string, values ...string) *prometheus.CounterVec {
		return telemetry.Counters(f, "pushnode_"+name, help, label, values...)
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "pushnode_connections", Help: "Open connections."},
		func() float64 { return float64(n.connections()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "pushnode_channels", Help: "Channels with connections here."},
		func() float64 { return float64(n.hub.Len()) })
	m := &metrics{
		connects: vec("connects_total", "Connect commands, by outcome.", "outcome"),
		refused:  vec("handshakes_refused_total", "Handshakes that were refused, by reason.", "reason"),
		closed:   closedVec{vec("connections_closed_total", "Connections closed, by the reason of the close code; custom: one that a business system chose.", "reason")},
		slow: vec("slow_total", "Connections that could not keep up, by what showed it: queue_full, write_timeout, blocked, frame_timeout.", "reason",
			"queue_full", "write_timeout", "blocked", "frame_timeout"),
		dropped: vec("dropped_total", "What was not sent or kept, by reason.", "reason",
			"encode", "cursor", "route_removal", "spared", "touch", "position"),
		unasked:   counter("questions_unasked_total", "Questions to the store that were not asked: too many waited, or whoever asked had left."),
		passWaits: counter("pass_waits_total", "Deliveries and catch-ups that had to wait until a message was on its way to all connections of a channel."),
		entries: vec("entries_total", "Entries that Dispatch delivered, by outcome.", "outcome",
			slices.Collect(maps.Values(outcomeNames))...),
		reads: vec("reads_total", "Reads of a channel, by what they needed: log, inbox (both), inbox_alone, or unsettled where Redis had just evicted something.", "source",
			"log", "inbox", "inbox_alone", "unsettled"),
		catchUps: vec("catchups_total", "Catch-ups of a channel, by what started them.", "reason", "gap", "start", "term", "beat"),
		leases: vec("lease_events_total", "What happened to the lease: granted, renewed, lost, restore, failed, blind.", "event",
			"granted", "renewed", "lost", "restore", "failed", "blind"),
		recovered:      counter("recovered_total", "Publications that clients got by recovery."),
		badFrames:      counter("bad_frames_total", "Frames that were not of the protocol."),
		errors:         counter("command_errors_total", "Commands that failed for a reason of ours."),
		cursorsWritten: counter("cursors_written_total", "Cursors written to the store."),
		cursorsTouched: counter("cursors_touched_total", "Cursors of connected devices that were noted to be in use."),
		cursorFailures: counter("cursor_writes_failed_total", "Batches of cursors that the store did not take; they wait."),
		devicesTrimmed: vec("devices_trimmed_total", "Devices of users who have too many: forgotten; and new devices of users that were not looked at, because too many waited or the store did not answer: skipped, failed.", "outcome",
			"forgotten", "skipped", "failed"),
	}
	m.connected = m.connects.WithLabelValues("ok")
	return m
}

// A closedVec counts connections by the reasons of close codes that this project
// has; any other is "custom", for whoever orders a disconnect may write anything.
type closedVec struct{ *prometheus.CounterVec }

func (v closedVec) WithLabelValues(reason string) prometheus.Counter {
	if reason != gone.Reason && !push.KnownReason(reason) {
		reason = "custom"
	}
	return v.CounterVec.WithLabelValues(reason)
}

// outcomeNames are the labels of hub outcomes.
var outcomeNames = map[hub.Outcome]string{
	hub.Unknown: "unknown", hub.Taken: "taken", hub.Held: "held", hub.Repeat: "repeat", hub.Gap: "gap",
}
