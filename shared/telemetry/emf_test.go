package telemetry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strings"
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
	e := NewEMF(&out, "push", "dispatch", reg, slog.New(slog.DiscardHandler), "messages_total/outcome", "errors_total", "open", "took_seconds")

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
		directives := directivesOf(line)
		if len(directives) != 1 || directives[0]["Namespace"] != "push" {
			t.Errorf("%s: directives %v, want one, of the namespace push", s.name, directives)
		}
		got := figuresOf(line)
		if !maps.Equal(got, s.want) || line["program"] != "dispatch" {
			t.Errorf("%s: figures %v, want %v", s.name, got, s.want)
		}
	}
	quiet := NewEMF(&out, "push", "x", prometheus.NewRegistry(), slog.New(slog.DiscardHandler), "open")
	out.Reset()
	if quiet.Flush(); out.Len() != 0 {
		t.Errorf("no figure gives %q, want no line", out.String())
	}
}

// directivesOf returns what a line says of its metrics.
func directivesOf(line map[string]any) []map[string]any {
	var directives []map[string]any
	for _, d := range line["_aws"].(map[string]any)["CloudWatchMetrics"].([]any) {
		directives = append(directives, d.(map[string]any))
	}
	return directives
}

// figuresOf returns the metrics that a line's directives name, with their values.
func figuresOf(line map[string]any) map[string]float64 {
	figures := make(map[string]float64)
	for _, d := range directivesOf(line) {
		for _, m := range d["Metrics"].([]any) {
			name := m.(map[string]any)["Name"].(string)
			figures[name] = line[name].(float64)
		}
	}
	return figures
}

// TestEMFOfMany shows that a line holds more figures than CloudWatch takes from one
// directive, without losing any.
func TestEMFOfMany(t *testing.T) {
	reg := prometheus.NewRegistry()
	vec := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{Name: "many_total"}, []string{"of"})
	want := make(map[string]float64)
	for i := range 2*directiveMost + 1 {
		of := fmt.Sprint(i)
		vec.WithLabelValues(of).Add(float64(i + 1))
		want["many_total_"+of] = float64(i + 1)
	}
	var out bytes.Buffer
	NewEMF(&out, "push", "x", reg, slog.New(slog.DiscardHandler), "many_total/of").Flush()
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	for _, d := range directivesOf(line) {
		if n := len(d["Metrics"].([]any)); n > directiveMost {
			t.Errorf("a directive names %d metrics, of which CloudWatch takes %d", n, directiveMost)
		}
	}
	if got := figuresOf(line); !maps.Equal(got, want) {
		t.Errorf("%d figures, want %d: %v", len(got), len(want), got)
	}
}

func TestNamespace(t *testing.T) {
	tests := map[string]string{ // to the error
		"pushcluster":            "",
		"pushcluster/shop-1":     "",
		"A z:9#_.":               "",
		strings.Repeat("a", 255): "",
		"":                       "it has 0 characters; CloudWatch takes 1 to 255",
		strings.Repeat("a", 256): "it has 256 characters; CloudWatch takes 1 to 255",
		":push":                  `it begins with ":", which CloudWatch does not take`,
		"AWS/ECS":                `it begins with "AWS/", which CloudWatch does not take`,
		"push[1]":                "character 5 is none of the letters, digits, spaces and .-_/#: that CloudWatch takes",
		"p\u00fcsh":              "character 2 is none of the letters, digits, spaces and .-_/#: that CloudWatch takes",
	}
	for text, want := range tests {
		var n Namespace
		err := n.UnmarshalText([]byte(text))
		if got := fmt.Sprint(err); err != nil && got != want || err == nil && (want != "" || string(n) != text) {
			t.Errorf("%q: %v and %q, want the error %q", text, err, n, want)
		}
	}
}
