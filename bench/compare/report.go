//go:build linux

package compare

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pushcluster/bench/measure"
)

// A Report is what a run found, for scripts.
type Report struct {
	Suite       string    `json:"suite"`
	At          time.Time `json:"at"`
	Machine     Machine   `json:"machine"`
	Connections int       `json:"connections"`
	Rounds      int       `json:"rounds"`
	SpanSeconds float64   `json:"span_seconds"` // of each timed row
	TookSeconds float64   `json:"took_seconds"`
	Targets     []*Target `json:"targets"`      // the first is what ratios are of
	Of          string    `json:"of,omitempty"` // what they have more and more of
	Derived     []Derived `json:"derived,omitempty"`
}

// A Target is what was found of one contender.
type Target struct {
	Name    string         `json:"name"`
	About   string         `json:"about"`
	Column  string         `json:"column"`       // the process that holds the connections
	Of      int            `json:"of,omitempty"` // how many of the report's Of
	Skipped string         `json:"skipped,omitempty"`
	Failed  []string       `json:"failed,omitempty"`
	Rows    map[string]Row `json:"rows"`
}

// A Row is the figures of one measure, by name (see [measure.Figures]).
type Row map[string]*Samples

// Samples are the values of one figure, one of each round.
type Samples struct {
	Median float64   `json:"median"`
	All    []float64 `json:"all"`
	Ratio  float64   `json:"ratio,omitempty"` // of the median to that of the first target
}

func newReport(plan Plan) *Report {
	return &Report{
		Suite: plan.Suite, At: time.Now().UTC().Truncate(time.Second), Machine: thisMachine(),
		Connections: plan.Measure.Connections, Of: plan.Of, Rounds: plan.Rounds, SpanSeconds: plan.Measure.Span.Seconds(),
	}
}

// target returns the target of that name, which it makes if there is none.
func (r *Report) target(name string) *Target {
	for _, t := range r.Targets {
		if t.Name == name {
			return t
		}
	}
	t := &Target{Name: name, Rows: make(map[string]Row)}
	r.Targets = append(r.Targets, t)
	return t
}

func (r *Report) add(name, about, column, row string, figures measure.Figures) {
	t := r.target(name)
	t.About, t.Column = about, column
	if t.Rows[row] == nil {
		t.Rows[row] = make(Row)
	}
	for figure, v := range figures {
		if t.Rows[row][figure] == nil {
			t.Rows[row][figure] = &Samples{}
		}
		t.Rows[row][figure].All = append(t.Rows[row][figure].All, v)
	}
}

func (r *Report) skip(name, why string) { r.target(name).Skipped = why }

func (r *Report) fail(name, why string) {
	t := r.target(name)
	t.Failed = append(t.Failed, why)
}

// finish computes what is told of all rounds together.
func (r *Report) finish() {
	r.TookSeconds = time.Since(r.At).Seconds()
	for _, t := range r.Targets {
		for id, row := range t.Rows {
			for figure, s := range row {
				s.Median = median(s.All)
				if base := r.Targets[0].Rows[id][figure]; base != nil && base.Median != 0 {
					s.Ratio = s.Median / base.Median
				}
			}
		}
	}
	r.derive()
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	n := len(sorted)
	switch {
	case n == 0:
		return 0
	case n%2 == 1:
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// Value returns the median of a figure; ok is false if it was not taken.
func (t *Target) Value(row, figure string) (v float64, ok bool) {
	s := t.Rows[row][figure]
	if s == nil {
		return 0, false
	}
	return s.Median, true
}

// processes returns the names of the processes that a row has processor time
// of, the one that holds the connections first.
func (t *Target) processes(row string) []string {
	var names []string
	for figure := range t.Rows[row] {
		if name, ok := strings.CutPrefix(figure, "cpu."); ok {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		switch {
		case a == t.Column:
			return -1
		case b == t.Column:
			return 1
		}
		return cmp.Compare(a, b)
	})
	return names
}

// total returns the processor time of all processes for one unit of a row, in
// microseconds.
func (t *Target) total(row string) float64 {
	sum := 0.0
	for _, name := range t.processes(row) {
		v, _ := t.Value(row, "cpu."+name)
		sum += v
	}
	return sum
}

// WriteJSON writes the report to path, whole or not at all.
func (r *Report) WriteJSON(path string) error {
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	part := path + ".part"
	if err := os.WriteFile(part, append(b, '\n'), 0o644); err != nil {
		return err
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
