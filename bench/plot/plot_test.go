package plot

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

func TestWrite(t *testing.T) {
	tests := map[string]struct {
		chart  Chart
		points int // circles drawn
	}{
		"empty":     {},
		"one point": {Chart{Lines: []Line{{Name: "a", X: []float64{1}, Y: []float64{2}}}}, 1},
		"linear": {Chart{Title: "memory & <connections>", Lines: []Line{
			{Name: "a", X: []float64{1000, 5000, 19000}, Y: []float64{1.4, 1.5, 2}},
			{Name: "b", X: []float64{1000, 5000}, Y: []float64{19, 18}},
		}}, 5},
		"log, with what it cannot show": {Chart{X: Axis{Scale: Log}, Y: Axis{Scale: Log}, Lines: []Line{
			{Name: "a", X: []float64{0.1, 0, 10, 100}, Y: []float64{1, 1, math.NaN(), 30}},
		}}, 2},
		"own ticks": {Chart{X: Axis{Ticks: []float64{0, 1}, Label: func(float64) string { return "tick" }},
			Lines: []Line{{Name: "a", X: []float64{0, 1}, Y: []float64{-3, 3}}}}, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := tt.chart.Write(&b); err != nil {
				t.Fatal(err)
			}
			if n := countElements(t, b.String(), "circle"); n != tt.points {
				t.Errorf("%d points are drawn, want %d:\n%s", n, tt.points, b.String())
			}
			if strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") {
				t.Errorf("the drawing holds what is no number:\n%s", b.String())
			}
		})
	}
}

func TestLabel(t *testing.T) {
	for want, v := range map[string]float64{"0": 0, "0.25": .25, "900": 900, "10000": 10_000, "1500000": 1_500_000, "1e+07": 1e7} {
		if got := (Axis{}).label(v); got != want {
			t.Errorf("label(%v) = %q, want %q", v, got, want)
		}
	}
}

// countElements reads text as XML.
func countElements(t *testing.T, text, name string) int {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	n := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			t.Fatalf("not XML: %v\n%s", err, text)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == name {
			n++
		}
	}
}
