//go:build linux

package compare

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pushcluster/bench/measure"
	"pushcluster/bench/plot"
)

// sample is a report of two rounds.
func sample() *Report {
	r := newReport(Plan{Suite: "node", Rounds: 2, Measure: measure.Config{Connections: 1000}})
	for round := range 2 {
		more := float64(round)
		r.add("gepoll", "the floor", "node", "batched", measure.Figures{"cpu.node": 9 + 2*more, "rate": 100_000, "per.frame": 1})
		r.add("gepoll", "the floor", "node", "memory", measure.Figures{"kib": 1.4})
		r.add("gepoll", "the floor", "node", "latency", measure.Figures{"q50": .13, "q99": .25, "q99.9": 1.5, "rate": 2000})
		r.add("node", "ours", "node", "batched", measure.Figures{"cpu.node": 20, "cpu.dispatch": 10, "cpu.redis": 5, "cpu.auth": 0.01, "rate": 28_000})
		r.add("node", "ours", "node", "memory", measure.Figures{"kib": 2.8})
		r.add("node", "ours", "node", "fanout", measure.Figures{"cpu.node": 7, "cpu.redis": 0.01})
		r.add("node", "ours", "node", "xadd", measure.Figures{"cpu.redis": 2})
		r.add("node+sqlite", "ours, durable", "node", "batched", measure.Figures{"cpu.node": 20, "cpu.dispatch": 32, "cpu.redis": 5})
	}
	r.add("node", "ours", "node", "memory@10000", measure.Figures{"kib": 3})
	r.add("node", "ours", "node", "memory@9000", measure.Figures{"kib": 3})
	r.skip("nchan", "missing on this machine")
	r.fail("gepoll", "it fell over")
	r.finish()
	return r
}

func TestPrint(t *testing.T) {
	var out strings.Builder
	sample().Print(&out)
	text := strings.Join(strings.Fields(out.String()), " ") // however wide the columns are
	for name, want := range map[string]string{
		"cost of the floor":     "| 100k/s, 10.0 µs",
		"cost of every process": "| 28k/s, 20.0 + 10.0 dispatch + 5.00 redis µs",
		"percentiles":           "0.13 / 0.25 / 1.50 ms, 2.0k/s",
		"ratio":                 "| 2.00, all 3.50",
		"ratio of memory":       "| idle memory ",
		"skipped":               "skipped nchan: missing on this machine",
		"failed":                "FAILED gepoll: it fell over",
		"durable write":         "durable write (inbox) in sqlite, for a message of row batched, µs | 22.0",
		"multiple of XADD":      "| 2.50",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s: the table lacks %q:\n%s", name, want, out.String())
		}
	}
	if strings.Contains(out.String(), "auth") {
		t.Errorf("a process that did nothing is in the table:\n%s", out.String())
	}
	if strings.Index(out.String(), "9000 connections") > strings.Index(out.String(), "10000 connections") {
		t.Errorf("rows are not in the order of connections:\n%s", out.String())
	}
}

func TestWriteJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "bench.json")
	if err := sample().WriteJSON(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	s := r.Targets[1].Rows["batched"]["cpu.node"]
	if r.Targets[1].Name != "node" || s.Median != 20 || s.Ratio != 2 || len(s.All) != 2 {
		t.Errorf("the report holds %+v of %s", s, r.Targets[1].Name)
	}
}

func TestWritePlots(t *testing.T) {
	dir := t.TempDir()
	if err := sample().WritePlots(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bench-node-latency.svg", "bench-node-memory.svg"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "bench-node-half.svg")); err == nil {
		t.Error("a plot without lines was drawn")
	}
}

func TestPlotOfGrowth(t *testing.T) {
	r := newReport(Plan{Suite: "cluster", Of: "nodes"})
	for n, cost := range []float64{10, 15} {
		name := fmt.Sprint(n + 1)
		r.add(name, "", "node", "unicast", measure.Figures{"cpu.node": cost, "cpu.redis": cost})
		r.target(name).Of = n + 1
	}
	r.finish()
	lines := r.growth().Lines
	want := []plot.Line{{Name: "unicast", X: []float64{1, 2}, Y: []float64{1, 1.5}}}
	if !reflect.DeepEqual(lines, want) {
		t.Errorf("lines are %v, want %v", lines, want)
	}
	if got := newReport(Plan{Suite: "node"}).growth().Lines; got != nil {
		t.Errorf("lines are %v where nothing grows", got)
	}
}

func TestMedian(t *testing.T) {
	for name, tt := range map[string]struct {
		all  []float64
		want float64
	}{
		"none": {nil, 0}, "one": {[]float64{3}, 3}, "odd": {[]float64{9, 1, 5}, 5}, "even": {[]float64{4, 1, 2, 100}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			if got := median(tt.all); math.Abs(got-tt.want) > 1e-9 {
				t.Errorf("median(%v) = %v, want %v", tt.all, got, tt.want)
			}
		})
	}
}
