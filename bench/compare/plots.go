//go:build linux

package compare

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"pushcluster/bench/plot"
)

// WritePlots draws what the report has figures for into dir: the percentiles of
// latencies, memory and cost against the number of connections, and how cost
// grows with what the targets have more and more of.
func (r *Report) WritePlots(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	charts := map[string]plot.Chart{
		"latency": r.percentiles("latency", "Latency at a steady rate"),
		"half":    r.percentiles("half", "Latency at half of each one's maximum, one message a request"),
		"memory":  r.curve("memory", "kib", "Idle memory against connections", "KiB a connection"),
		"connect": r.curve("connect", "", "Cost of a connection against their number", "µs, all processes"),
		"batched": r.curve("batched", "", "Cost of a message against connections", "µs, all processes"),
		"growth":  r.growth(),
	}
	for name, chart := range charts {
		if len(chart.Lines) == 0 {
			continue
		}
		if err := writeChart(filepath.Join(dir, "bench-"+r.Suite+"-"+name+".svg"), chart); err != nil {
			return err
		}
	}
	return nil
}

func writeChart(path string, chart plot.Chart) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := chart.Write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// percentiles draws the percentiles of a row, with the far ones as far apart as
// the near ones: the axis is how rare it is that a message takes longer.
func (r *Report) percentiles(row, title string) plot.Chart {
	shown := []float64{50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99}
	chart := plot.Chart{
		Title: title,
		X: plot.Axis{Title: "percentile", Ticks: []float64{rarity(50), rarity(90), rarity(99), rarity(99.9), rarity(99.99)},
			Label: func(v float64) string { return strconv.FormatFloat(100-100/math.Pow(10, v), 'g', 4, 64) }},
		Y: plot.Axis{Title: "ms", Scale: plot.Log},
	}
	for _, t := range r.Targets {
		l := plot.Line{Name: t.Name}
		for _, q := range shown {
			if v, ok := t.Value(row, "q"+strconv.FormatFloat(q, 'f', -1, 64)); ok {
				l.X, l.Y = append(l.X, rarity(q)), append(l.Y, v)
			}
		}
		if len(l.X) > 0 {
			chart.Lines = append(chart.Lines, l)
		}
	}
	return chart
}

func rarity(percentile float64) float64 { return math.Log10(100 / (100 - percentile)) }

// curve draws a figure of a row, or without a figure its cost, against the
// number of connections.
func (r *Report) curve(row, figure, title, unit string) plot.Chart {
	chart := plot.Chart{Title: title, X: plot.Axis{Title: "connections"}, Y: plot.Axis{Title: unit}}
	for _, t := range r.Targets {
		l := plot.Line{Name: t.Name}
		var ids []string
		for id := range t.Rows {
			if strings.HasPrefix(id, row+"@") {
				ids = append(ids, id)
			}
		}
		for _, id := range sortedRows(ids) {
			v := t.total(id)
			if figure != "" {
				v, _ = t.Value(id, figure)
			}
			l.X, l.Y = append(l.X, float64(countOf(id))), append(l.Y, v)
		}
		if len(l.X) > 0 {
			chart.Lines = append(chart.Lines, l)
		}
	}
	return chart
}

// growth draws what each row costs in all processes, as a multiple of what it
// costs the first target, against what the targets have more and more of.
func (r *Report) growth() plot.Chart {
	chart := plot.Chart{Title: "How cost grows with " + r.Of, X: plot.Axis{Title: r.Of}, Y: plot.Axis{Title: "multiple of the first, all processes"}}
	if r.Of == "" || len(r.Targets) < 2 {
		return chart
	}
	for _, row := range []string{"connect", "memory", "unicast", "batched", "broadcast", "recover"} {
		cost := func(t *Target) float64 {
			if v, ok := t.Value(row, "kib"); ok {
				return v
			}
			return t.total(row)
		}
		first := cost(r.Targets[0])
		if first == 0 {
			continue
		}
		l := plot.Line{Name: row}
		for _, t := range r.Targets {
			if v := cost(t); v > 0 {
				l.X, l.Y = append(l.X, float64(t.Of)), append(l.Y, v/first)
			}
		}
		chart.Lines = append(chart.Lines, l)
	}
	return chart
}
