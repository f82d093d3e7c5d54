//go:build linux

package compare

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"pushcluster/bench/measure"
)

// Print writes the report as tables that people can read, and that Markdown
// can.
func (r *Report) Print(out io.Writer) {
	fmt.Fprintf(out, "\n%s\n%d connections, 128-byte payloads, %d rounds, %v s a row, medians; processor time in µs of each process for one unit\n",
		r.Machine, r.Connections, r.Rounds, r.SpanSeconds)
	if r.Machine.Busy() {
		fmt.Fprintf(out, "PRELIMINARY: others used this machine when the run began (load %.1f)\n", r.Machine.Load)
	}
	fmt.Fprintln(out)
	ids, about := r.rows()
	header := []string{"measure"}
	var shown []*Target
	for _, t := range r.Targets {
		if t.Skipped == "" {
			shown = append(shown, t)
			header = append(header, t.Name)
		}
	}
	lines := [][]string{header}
	for i, id := range ids {
		line := []string{about[i]}
		for _, t := range shown {
			line = append(line, t.cell(id))
		}
		lines = append(lines, line)
	}
	printTable(out, lines)
	r.printRatios(out, ids, about, shown)
	r.printDerived(out)
	for _, t := range r.Targets {
		if t.Skipped != "" {
			fmt.Fprintf(out, "skipped %s: %s\n", t.Name, t.Skipped)
		}
		for _, why := range t.Failed {
			fmt.Fprintf(out, "FAILED %s: %s\n", t.Name, why)
		}
	}
}

// rows returns the ids of the rows that any target has, in order, and what they
// are about.
func (r *Report) rows() (ids, about []string) {
	for _, row := range append(measure.Rows(), measure.Recover()) {
		var found []string
		for _, t := range r.Targets {
			for id := range t.Rows {
				if base, _, _ := strings.Cut(id, "@"); base == row.ID {
					found = append(found, id)
				}
			}
		}
		for _, id := range sortedRows(found) {
			text := row.About
			if _, n, ok := strings.Cut(id, "@"); ok {
				text += ", " + n + " connections"
			}
			ids, about = append(ids, id), append(about, text)
		}
	}
	return ids, about
}

// printRatios prints each target's costs and times as multiples of the first's.
func (r *Report) printRatios(out io.Writer, ids, about []string, shown []*Target) {
	if len(shown) < 2 {
		return
	}
	base := shown[0]
	header := []string{"as a multiple of " + base.Name}
	for _, t := range shown[1:] {
		header = append(header, t.Name)
	}
	lines := [][]string{header}
	for i, id := range ids {
		line := []string{about[i]}
		some := false
		for _, t := range shown[1:] {
			cell := ratioCell(t, base, id)
			some = some || cell != "–"
			line = append(line, cell)
		}
		if some {
			lines = append(lines, line)
		}
	}
	fmt.Fprintln(out)
	printTable(out, lines)
	fmt.Fprintln(out)
}

// ratioCell tells what id costs t as a multiple of what it costs base: the
// process that holds the connections, and where there are more all together.
func ratioCell(t, base *Target, id string) string {
	if v, ok := ratio(t, base, id, "kib"); ok {
		return v
	}
	if v, ok := ratio(t, base, id, "q99"); ok {
		return "p99 " + v
	}
	own, ok := t.Value(id, "cpu."+t.Column)
	floor, ok2 := base.Value(id, "cpu."+base.Column)
	if !ok || !ok2 || floor == 0 {
		return "–"
	}
	cell := fmt.Sprintf("%.2f", own/floor)
	if len(t.processes(id)) > 1 {
		cell += fmt.Sprintf(", all %.2f", t.total(id)/base.total(id))
	}
	return cell
}

func ratio(t, base *Target, row, figure string) (string, bool) {
	v, ok := t.Value(row, figure)
	b, ok2 := base.Value(row, figure)
	if !ok || !ok2 || b == 0 {
		return "", false
	}
	return fmt.Sprintf("%.2f", v/b), true
}

// cell tells a row of one target in a few words.
func (t *Target) cell(id string) string {
	row := t.Rows[id]
	if row == nil {
		return "–"
	}
	var parts []string
	if v, ok := t.Value(id, "kib"); ok {
		parts = append(parts, fmt.Sprintf("%.2f KiB", v))
	}
	if v, ok := t.Value(id, "median"); ok {
		worst, _ := t.Value(id, "worst")
		parts = append(parts, fmt.Sprintf("%.0f / %.0f ms", v, worst))
	}
	if v, ok := t.Value(id, "seconds"); ok {
		parts = append(parts, fmt.Sprintf("%.2f s", v))
	}
	if v, ok := t.Value(id, "q50"); ok {
		p99, _ := t.Value(id, "q99")
		p999, _ := t.Value(id, "q99.9")
		parts = append(parts, fmt.Sprintf("%s / %s / %s ms", short(v), short(p99), short(p999)))
	}
	if v, ok := t.Value(id, "rate"); ok {
		parts = append(parts, perSecond(v))
	}
	if cost := t.cost(id); cost != "" {
		parts = append(parts, cost)
	}
	if v, ok := t.Value(id, "per.frame"); ok && v > 1.05 {
		parts = append(parts, fmt.Sprintf("%.1f a frame", v))
	}
	return strings.Join(parts, ", ")
}

// cost tells the processor time of every process, as in "9.4 µs" or
// "12 + 3.1 redis".
func (t *Target) cost(id string) string {
	var parts []string
	for _, name := range t.processes(id) {
		v, _ := t.Value(id, "cpu."+name)
		if v < 0.05 && name != t.Column {
			continue
		}
		if name == t.Column {
			parts = append(parts, short(v))
		} else {
			parts = append(parts, short(v)+" "+name)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, " + ") + " µs"
}

// short prints v with two or three digits that count.
func short(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func perSecond(v float64) string {
	if v >= 10_000 {
		return strconv.FormatFloat(v/1000, 'f', 0, 64) + "k/s"
	}
	if v >= 1000 {
		return strconv.FormatFloat(v/1000, 'f', 1, 64) + "k/s"
	}
	return strconv.FormatFloat(v, 'f', 0, 64) + "/s"
}

// printTable prints lines, the first of which is the header, as a Markdown table
// whose columns are in line.
func printTable(out io.Writer, lines [][]string) {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, line := range lines {
		for i, cell := range line {
			fmt.Fprintf(out, "| %s%s ", cell, strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
		}
		fmt.Fprintln(out, "|")
		if n == 0 {
			for _, w := range widths {
				fmt.Fprintf(out, "|%s", strings.Repeat("-", w+2))
			}
			fmt.Fprintln(out, "|")
		}
	}
}
