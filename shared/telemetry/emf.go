package telemetry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// An EMF writes chosen figures of a registry in CloudWatch's embedded metric
// format: a line of JSON in the log that CloudWatch makes metrics of. Where
// nothing can scrape /metrics, on Lambda, and where an alarm or a scaling rule of
// AWS needs a figure, this is how it gets there. Each figure is a metric that is
// paid for, so only those that are named go out.
type EMF struct {
	w         io.Writer
	reg       prometheus.Gatherer
	log       *slog.Logger
	namespace Namespace
	program   string
	figures   map[string]string // family to the label that divides it; empty: none

	mu   sync.Mutex // guards what follows
	last map[string]float64
}

// directiveMost is how many metrics CloudWatch takes from one directive; it drops
// the whole line where one has more (embedded metric format specification,
// MetricDirective).
const directiveMost = 100

// A Namespace is what CloudWatch keeps metrics under. Clusters that share an
// account and a region want one each: else alarms and scaling rules of one see the
// figures of all.
type Namespace string

// UnmarshalText reads a namespace by CloudWatch's rules: 1 to 255 letters, digits,
// spaces and .-_/#: of ASCII, of which it begins with no colon, and with AWS/ only
// those of AWS itself do.
func (n *Namespace) UnmarshalText(text []byte) error {
	const signs = " .-_/#:"
	switch s := string(text); {
	case s == "" || len(s) > 255:
		return fmt.Errorf("it has %d characters; CloudWatch takes 1 to 255", len(s))
	case strings.HasPrefix(s, ":") || strings.HasPrefix(s, "AWS/"):
		return fmt.Errorf("it begins with %q, which CloudWatch does not take", s[:1+strings.IndexAny(s, ":/")])
	default:
		for i, c := range text {
			letter := 'a' <= c|0x20 && c|0x20 <= 'z'
			if !letter && (c < '0' || c > '9') && strings.IndexByte(signs, c) < 0 {
				return fmt.Errorf("character %d is none of the letters, digits, spaces and .-_/#: that CloudWatch takes", i+1)
			}
		}
		*n = Namespace(s)
		return nil
	}
}

// NewEMF returns a writer to w of figures of reg, in a namespace and with the
// dimension program. A figure is the name of a metric, of which all series are added up, or
// "name/label", which gives one metric for each of the label's values. It
// writes nothing until Flush.
func NewEMF(w io.Writer, namespace Namespace, program string, reg prometheus.Gatherer, log *slog.Logger, figures ...string) *EMF {
	e := &EMF{w: w, reg: reg, log: log, namespace: namespace, program: program, figures: make(map[string]string), last: make(map[string]float64)}
	for _, f := range figures {
		name, label, _ := strings.Cut(f, "/")
		e.figures[name] = label
	}
	return e
}

// Flush writes one line: gauges as they are, of counters what was added since
// the last Flush, of histograms the sum and the count of that. Counters that
// have not moved are left out; without any figure there is no line.
func (e *EMF) Flush() {
	e.mu.Lock()
	defer e.mu.Unlock()
	families, err := e.reg.Gather()
	if err != nil {
		e.log.Warn("metrics could not be gathered", "err", err)
		return
	}
	values := make(map[string]float64)
	for _, f := range families {
		if label, ok := e.figures[f.GetName()]; ok {
			e.collect(f, label, values)
		}
	}
	if len(values) == 0 {
		return
	}
	e.write(values)
}

// Run flushes at every beat until ctx ends, and once more then.
func (e *EMF) Run(ctx context.Context, every time.Duration) {
	beat := time.NewTicker(every)
	defer beat.Stop()
	for {
		select {
		case <-beat.C:
			e.Flush()
		case <-ctx.Done():
			e.Flush()
			return
		}
	}
}

// collect adds the figures of one family to values.
func (e *EMF) collect(f *dto.MetricFamily, label string, values map[string]float64) {
	totals := make(map[string]float64)
	for _, m := range f.GetMetric() {
		name := f.GetName()
		for _, pair := range m.GetLabel() {
			if label != "" && pair.GetName() == label {
				name += "_" + pair.GetValue()
			}
		}
		switch f.GetType() {
		case dto.MetricType_GAUGE:
			values[name] += m.GetGauge().GetValue()
		case dto.MetricType_COUNTER:
			totals[name] += m.GetCounter().GetValue()
		case dto.MetricType_HISTOGRAM:
			totals[name+"_sum"] += m.GetHistogram().GetSampleSum()
			totals[name+"_count"] += float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, total := range totals {
		if added := total - e.last[name]; added > 0 {
			values[name] = added
		}
		e.last[name] = total
	}
}

func (e *EMF) write(values map[string]float64) {
	type metric struct {
		Name string
		Unit string `json:",omitempty"`
	}
	type directive struct {
		Namespace  Namespace
		Dimensions [][]string
		Metrics    []metric
	}
	var metrics []metric
	line := map[string]any{"program": e.program}
	for name, value := range values {
		if math.IsNaN(value) || math.IsInf(value, 0) {
			continue
		}
		unit := ""
		if strings.HasSuffix(name, "_seconds_sum") {
			unit = "Seconds"
		}
		metrics = append(metrics, metric{name, unit})
		line[name] = value
	}
	var directives []directive
	for some := range slices.Chunk(metrics, directiveMost) {
		directives = append(directives, directive{e.namespace, [][]string{{"program"}}, some})
	}
	line["_aws"] = map[string]any{"Timestamp": time.Now().UnixMilli(), "CloudWatchMetrics": directives}
	raw, err := json.Marshal(line)
	if err != nil {
		e.log.Warn("metrics could not be written", "err", err)
		return
	}
	e.w.Write(append(raw, '\n')) // a log that cannot be written can be told nothing
}
