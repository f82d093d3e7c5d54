package collectfn

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushcluster/functions/collect/label"
	"pushcluster/shared/push"
)

// maxRuleLabels is how many rules, of all sources, have metrics of their own.
// The others count as "other" of their source.
const maxRuleLabels = 10_000

// sourceMetrics are what is counted of each source.
type sourceMetrics struct {
	received, verified, refused, sent *prometheus.CounterVec

	labels *label.Set
	rules  *label.Set // "SOURCE/RULE"
}

func newSourceMetrics(f promauto.Factory) sourceMetrics {
	return sourceMetrics{
		received: f.NewCounterVec(prometheus.CounterOpts{
			Name: "collect_source_received_total", Help: "Webhooks that were posted, whatever became of them."}, []string{"source"}),
		verified: f.NewCounterVec(prometheus.CounterOpts{
			Name: "collect_source_verified_total", Help: "Webhooks whose signature was good."}, []string{"source"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "collect_source_refused_total", Help: "Webhooks that were refused, by the code of the problem."}, []string{"source", "reason"}),
		sent: f.NewCounterVec(prometheus.CounterOpts{
			Name: "collect_source_sent_total", Help: "Messages that rules made of webhooks and that were accepted, without repeats."}, []string{"source"}),
		labels: label.Sources(),
		rules:  label.New(maxRuleLabels),
	}
}

// label returns the label of a source.
func (m *sourceMetrics) label(source string) string { return m.labels.Of(source) }

func (m *metrics) received(source string) {
	m.sources.received.WithLabelValues(m.sources.label(source)).Inc()
}

func (m *metrics) verified(source string) {
	m.sources.verified.WithLabelValues(m.sources.label(source)).Inc()
}

func (m *metrics) refusedOf(source string, reason push.Code) {
	m.sources.refused.WithLabelValues(m.sources.label(source), string(reason)).Inc()
}

func (m *metrics) sent(source string, messages int) {
	m.sources.sent.WithLabelValues(m.sources.label(source)).Add(float64(messages))
}

// rule returns the labels of a rule of a source.
func (m *sourceMetrics) rule(source, rule string) (ofSource, ofRule string) {
	ofSource = m.label(source)
	if m.rules.Of(ofSource+"/"+rule) == label.Other {
		return ofSource, label.Other
	}
	return ofSource, rule
}
