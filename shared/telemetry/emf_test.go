package telemetry

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"maps"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

func TestEMF(t *testing.T) {
	reg := prometheus.NewRegistry()
	f := promauto.With(reg)
	messages := f.NewCounterVec(prometheus.CounterOpts{Name: "messages_total"}, []string{"outcome", "way"})
	errors := f.NewCounterVec(prometheus.CounterOpts{Name: "errors_total"}, []string{"kind"})
	open := f.NewGauge(prometheus.GaugeOpts{Name: "open"})
	took := f.NewHistogram(prometheus.HistogramOpts{Name: "took_seconds"})
	f.NewCounter(prometheus.CounterOpts{Name: "private_total"}).Add(7)
	var out bytes.Buffer
	e := NewEMF(&out, "dispatch", reg, slog.New(slog.DiscardHandler), "messages_total/outcome", "errors_total", "open", "took_seconds")

	steps := []struct {
		name string
		do   func()
		want map[string]float64
	}{
		{"nothing yet", func() {}, map[string]float64{"open": 0}},
		{"some", func() {
			messages.WithLabelValues("ok", "a").Add(2)
			messages.WithLabelValues("ok", "b").Inc()
			messages.WithLabelValues("failed", "a").Inc()
			errors.WithLabelValues("x").Inc()
			errors.WithLabelValues("y").Inc()
			open.Set(3)
			took.Observe(0.5)
		}, map[string]float64{"messages_total_ok": 3, "messages_total_failed": 1, "errors_total": 2, "open": 3, "took_seconds_sum": 0.5, "took_seconds_count": 1}},
		{"only what was added", func() { messages.WithLabelValues("ok", "a").Inc() }, map[string]float64{"messages_total_ok": 1, "open": 3}},
	}
	for _, s := range steps {
		out.Reset()
		s.do()
		e.Flush()
		var line map[string]any
		if err := json.Unmarshal(out.Bytes(), &line); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
			t.Fatalf("%s: %q is not one line of JSON: %v", s.name, out.Bytes(), err)
		}
		got := make(map[string]float64)
		for _, m := range line["_aws"].(map[string]any)["CloudWatchMetrics"].([]any)[0].(map[string]any)["Metrics"].([]any) {
			name := m.(map[string]any)["Name"].(string)
			got[name] = line[name].(float64)
		}
		if !maps.Equal(got, s.want) || line["program"] != "dispatch" {
			t.Errorf("%s: figures %v, want %v", s.name, got, s.want)
		}
	}
	quiet := NewEMF(&out, "x", prometheus.NewRegistry(), slog.New(slog.DiscardHandler), "open")
	out.Reset()
	if quiet.Flush(); out.Len() != 0 {
		t.Errorf("no figure gives %q, want no line", out.String())
	}
}
