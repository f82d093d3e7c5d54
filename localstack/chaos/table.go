package chaos

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// A Row is what one scenario came to.
type Row struct {
	Scenario  int    `json:"scenario"`
	Name      string `json:"name"`
	Accepted  int    `json:"accepted"`
	Expected  int    `json:"expected"`
	Received  int    `json:"received"`
	Lost      int    `json:"lost"`
	Repeated  int    `json:"repeated"`
	Replayed  int    `json:"replayed"`
	Reordered int    `json:"reordered"`
	HealP50   int64  `json:"heal_p50_ms"`
	HealMax   int64  `json:"heal_max_ms"`

	// What the file does not hold.
	Double bool          `json:"-"` // a double fault: the same message may come again at a new place
	Wrong  []string      `json:"-"` // what else is not as promised
	Notes  []string      `json:"-"` // what happened, for whoever has to explain it
	Took   time.Duration `json:"-"`
	Skip   string        `json:"-"` // why it was not run; empty: it was
	moved  int           // of Repeated: at a new place
}

// OK reports whether the row is as promised.
func (r *Row) OK() bool {
	repeats := r.Repeated
	if r.Double {
		repeats -= r.moved
	}
	return r.Lost == 0 && r.Reordered == 0 && repeats == 0 && len(r.Wrong) == 0
}

func (r *Row) fill(t tally) {
	r.Accepted, r.Expected, r.Received, r.Lost = t.accepted, t.expected, t.received, t.lost
	r.Repeated, r.moved, r.Replayed, r.Reordered = t.repeated+t.moved, t.moved, t.replayed, t.reordered
	r.HealP50, r.HealMax = t.healP50.Milliseconds(), t.healMax.Milliseconds()
}

// PrintTable writes rows as a table for people.
func PrintTable(w io.Writer, rows []Row) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\taccepted\texpected\treceived\tlost\trepeated\treplayed\treordered\theal p50\theal max\t\t")
	for i := range rows {
		r := &rows[i]
		if r.Skip != "" {
			fmt.Fprintf(tw, "%s\tskipped: %s\n", label(r), r.Skip)
			continue
		}
		repeated := fmt.Sprint(r.Repeated)
		if r.Double {
			repeated += "*"
		}
		verdict := "ok"
		if !r.OK() {
			verdict = "RED"
		}
		fmt.Fprintf(tw, "%s\t%d\t%d\t%d\t%d\t%s\t%d\t%d\t%s\t%s\t%s\t\n", label(r), r.Accepted, r.Expected, r.Received,
			r.Lost, repeated, r.Replayed, r.Reordered, seconds(r.HealP50), seconds(r.HealMax), verdict)
	}
	tw.Flush()
	fmt.Fprintln(w, "* a double fault: the same message may come again, at a new place")
}

func label(r *Row) string {
	const width = 46
	name := fmt.Sprintf("%2d %s", r.Scenario, r.Name)
	return name + strings.Repeat(" ", max(0, width-len([]rune(name))))
}

func seconds(ms int64) string { return fmt.Sprintf("%.1fs", float64(ms)/1000) }

// WriteJSON replaces the file at path by rows. Scenarios that were skipped are
// left out.
func WriteJSON(path string, rows []Row) error {
	ran := []Row{}
	for _, r := range rows {
		if r.Skip == "" {
			ran = append(ran, r)
		}
	}
	content, err := json.MarshalIndent(ran, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(content, '\n'), 0o644)
}
