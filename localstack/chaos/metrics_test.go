package chaos

import (
	"strings"
	"testing"
)

func TestSumOfMetrics(t *testing.T) {
	const text = `# HELP a_total Things.
# TYPE a_total counter
a_total{kind="x",of="1"} 3
a_total{kind="y"} 4
a_total_other 5
b 1e3
`
	series, err := parseMetrics(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	s := &scraper{seen: map[string]map[int]map[string]float64{"p": {1: series, 2: series}, "q": {1: series}}}
	tests := map[string]struct {
		metric string
		labels []string
		want   float64
	}{
		"all of it":  {"a_total", nil, 21},
		"one label":  {"a_total", []string{`kind="x"`}, 9},
		"two labels": {"a_total", []string{`kind="x"`, `of="1"`}, 9},
		"no labels":  {"b", nil, 3000},
		"none":       {"c", nil, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := s.sum(tt.metric, tt.labels...); got != tt.want {
				t.Errorf("sum of %s %v = %v, want %v", tt.metric, tt.labels, got, tt.want)
			}
		})
	}
}
