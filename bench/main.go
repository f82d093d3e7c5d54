//go:build linux

// Command bench measures this project's cluster beside what is possible and
// beside others: make bench-node, bench-scale, bench-peers and bench-cluster.
//
// Servers run on the first core and the load generator on the second, all on
// 127.0.0.0/8.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"pushcluster/bench/compare"
	"pushcluster/bench/measure"
	"pushcluster/bench/proc"
	"pushcluster/localstack/build"
)

// loadCPU is the core of the load generator.
const loadCPU = 1

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	suite         string
	n, rounds     int
	only, targets string
	span          time.Duration
	json, svg     string
	store         string
	profiles      string
	pin           bool
}

func parse(args []string, out io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&o.suite, "suite", "node", "node, scale, channels, peers or cluster")
	flags.IntVar(&o.n, "n", 0, "connections, at most 19,000; 0: the suite's own number")
	flags.IntVar(&o.rounds, "rounds", 0, "rounds; 0: the suite's own number")
	flags.StringVar(&o.only, "only", "", "rows to measure, such as memory,unicast; empty: all of the suite")
	flags.StringVar(&o.targets, "targets", "", "targets to measure, such as gepoll,node; empty: all of the suite")
	flags.DurationVar(&o.span, "span", 2*time.Second, "how long each timed row lasts")
	flags.StringVar(&o.json, "json", "", "file for the report; empty: .local/bench-SUITE.json")
	flags.StringVar(&o.svg, "svg", "", "directory for plots; empty: .local")
	flags.StringVar(&o.store, "store", "", "store of the target node+store, such as mongodb://…; empty: no such target")
	flags.StringVar(&o.profiles, "profiles", "", "directory for profiles of every row; empty: none are taken")
	flags.BoolVar(&o.pin, "pin", true, "servers on the first core, the load generator on the second")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%q is not understood", flags.Arg(0))
	}
	return o, nil
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args, out)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if o.pin {
		if err := proc.PinSelf(loadCPU); err != nil {
			return err
		}
		runtime.GOMAXPROCS(4) // on the one core, so that a blocked thread holds up no other
	}
	debug.SetGCPercent(400)
	root, err := build.Root()
	if err != nil {
		return err
	}
	plans, err := plansOf(o, root, out)
	if err != nil {
		return err
	}
	bin := filepath.Join(root, ".local", "bench")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	if o.profiles != "" {
		if err := os.MkdirAll(o.profiles, 0o755); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "building …")
	if err := build.Programs(ctx, root, bin, "", "./bench/floors", "./bench/volatile"); err != nil {
		return err
	}
	for i := range plans {
		plans[i].Bin = bin
	}
	return runPlans(ctx, o, root, plans, out)
}

// runPlans runs the plans of a suite and writes what they found.
func runPlans(ctx context.Context, o options, root string, plans []compare.Plan, out io.Writer) error {
	var errs []error
	for _, plan := range plans {
		report, err := compare.Run(ctx, plan)
		errs = append(errs, err)
		report.Print(out)
		path := o.json
		if path == "" {
			path = filepath.Join(root, ".local", "bench-"+plan.Suite+".json")
		}
		svg := o.svg
		if svg == "" {
			svg = filepath.Join(root, ".local")
		}
		errs = append(errs, report.WriteJSON(path), report.WritePlots(svg))
		fmt.Fprintf(out, "\nthe report is %s, the plots are in %s\n", path, svg)
	}
	return errors.Join(errs...)
}

// list reads a list that is separated by commas, nil if it is empty.
func list(text string) []string {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		items = append(items, strings.TrimSpace(item))
	}
	return items
}

// config returns how much is measured.
func (o options) config(connections int) measure.Config {
	if o.n > 0 {
		connections = o.n
	}
	return measure.Config{Connections: connections, Span: o.span, Profiles: o.profiles}
}
