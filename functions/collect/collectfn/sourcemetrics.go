package collectfn

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"pushcluster/functions/collect/source"
	"pushcluster/shared/push"
)

// maxSourceLabels is how many sources have metrics of their own: as many as a
// file and the store may hold. Sources that come and go over the API for long
// enough count as "other" from then on.
const maxSourceLabels = 2 * source.MaxStored

// maxRuleLabels is how many rules, of all sources, have metrics of their own.
// The others count as "other" of their source.
const maxRuleLabels = 10_000

// sourceMetrics are what is counted of each source.
type sourceMetrics struct {
	received, verified, refused, sent *prometheus.CounterVec

	labels *labels
	rules  *labels // "SOURCE/RULE"
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
		labels: &labels{most: maxSourceLabels, known: make(map[string]bool)},
		rules:  &labels{most: maxRuleLabels, known: make(map[string]bool)},
	}
}

// label returns the label of a source.
func (m *sourceMetrics) label(source string) string { return m.labels.of(source) }

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
	if m.rules.of(ofSource+"/"+rule) == otherLabel {
		return ofSource, otherLabel
	}
	return ofSource, rule
}

// otherLabel is the label of all that have none of their own.
const otherLabel = "other"

// labels bounds how many values a label has.
type labels struct {
	most int

	mu    sync.RWMutex // guards what follows
	known map[string]bool
}

// of returns name, or otherLabel once there are too many names.
func (l *labels) of(name string) string {
	l.mu.RLock()
	known, full := l.known[name], len(l.known) >= l.most
	l.mu.RUnlock()
	if known || name == "" {
		return name
	}
	if full {
		return otherLabel
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.known) >= l.most {
		return otherLabel
	}
	l.known[name] = true
	return name
}
