package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"pushcluster/localstack/build"
)

// Options say what is run. Root, Dir and Out are required.
type Options struct {
	Root    string    // of the project, whose programs are built
	Dir     string    // an existing directory for everything on disk
	Out     io.Writer // takes a line of progress for each scenario
	Seed    uint64    // the same seed plans the same run
	Only    []int     // the scenarios to run; none: all of the form
	Short   bool      // the short form: few scenarios, briefly
	Clients int       // 0: 1,000, in the short form 200
	Rate    int       // messages a second that are tried; 0: 550, in the short form 200
	Verbose bool      // say what happens while it does
	Keep    bool      // leave logs and store on disk where a row is good, too
}

func (o Options) withDefaults() Options {
	if o.Clients == 0 {
		o.Clients = 1000
		if o.Short {
			o.Clients = 200
		}
	}
	if o.Rate == 0 {
		o.Rate = 550
		if o.Short {
			o.Rate = 200
		}
	}
	return o
}

// Run builds the programs, runs the scenarios one after another and returns a
// row for each. The error says that the harness itself could not go on; whether
// the rows are good is theirs to say.
func Run(ctx context.Context, opts Options) ([]Row, error) {
	opts = opts.withDefaults()
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, ErrNoRedis
	}
	bin := filepath.Join(opts.Dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return nil, err
	}
	if err := build.Programs(ctx, opts.Root, bin, "chaos"); err != nil {
		return nil, err
	}
	var rows []Row
	for _, s := range plan(opts) {
		row := s.play(ctx, opts, bin)
		rows = append(rows, row)
		report(opts.Out, &row)
		if err := ctx.Err(); err != nil {
			return rows, err
		}
		runtime.GC()
	}
	return rows, nil
}

// ErrNoRedis means that there is no redis-server to break.
var ErrNoRedis = errors.New("redis-server is not on PATH")

// plan returns the scenarios to run, in their order.
func plan(opts Options) []scenario {
	return slices.DeleteFunc(scenarios(), func(s scenario) bool {
		if len(opts.Only) > 0 {
			return !slices.Contains(opts.Only, s.number)
		}
		return opts.Short && !s.short
	})
}

func report(w io.Writer, r *Row) {
	if r.Skip != "" {
		fmt.Fprintf(w, "%2d %s: skipped: %s\n", r.Scenario, r.Name, r.Skip)
		return
	}
	verdict := "ok"
	if !r.OK() {
		verdict = "RED"
	}
	fmt.Fprintf(w, "%2d %s: %s in %s: %d accepted, %d of %d received, %d repeated, %d replayed, %d reordered, healed in %s\n",
		r.Scenario, r.Name, verdict, r.Took.Round(time.Second), r.Accepted, r.Received, r.Expected, r.Repeated, r.Replayed, r.Reordered, seconds(r.HealMax))
	if !r.OK() {
		for _, line := range append(r.Wrong, r.Notes...) {
			fmt.Fprintf(w, "     %s\n", line)
		}
	}
}

// ParseOnly reads a list of scenarios such as "1,6,9"; empty means none.
func ParseOnly(list string) ([]int, error) {
	var only []int
	for part := range splitList(list) {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil, fmt.Errorf("scenario %q is no number", part)
		}
		if !slices.ContainsFunc(scenarios(), func(s scenario) bool { return s.number == n }) {
			return nil, fmt.Errorf("there is no scenario %d", n)
		}
		only = append(only, n)
	}
	return only, nil
}
