//go:build linux

// Package compare takes the figures of several targets in turns and sets them
// side by side.
//
// Machines are noisy, and their noise drifts. So one round measures every
// target once, the rounds follow one another, and what counts is the median.
package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pushcluster/bench/measure"
	"pushcluster/bench/target"
	"pushcluster/shared/push"
)

// A Contender is one kind of server and what is measured of it.
type Contender struct {
	Kind target.Kind
	Rows []string // ids of rows; nil: all
	// Channels is how many channels every user is subscribed to besides; for
	// contenders of this project.
	Channels int
	// Of is how many of Plan.Of this contender has.
	Of int
}

// A Plan says what is compared.
type Plan struct {
	Suite      string
	Contenders []Contender // the first is what ratios are of
	// Of is what the contenders have more and more of, such as nodes; empty where
	// they differ otherwise.
	Of      string
	Measure measure.Config
	Rounds  int
	Only    []string // ids of rows; nil: all
	// Counts has everything measured again with each of these numbers of
	// connections; nil: once, with Measure.Connections.
	Counts []int
	Bin    string // directory of the programs
	Out    io.Writer
}

// serverCPU is the core of the servers; the load generator has another.
const serverCPU = 0

// Run measures every contender in every round. What is missing on this machine
// is skipped, saying so; what fails is in the report and in the error.
func Run(ctx context.Context, plan Plan) (*Report, error) {
	counts := plan.Counts
	if counts == nil {
		counts = []int{plan.Measure.Connections}
	}
	report := newReport(plan)
	var errs []error
	skipped := make(map[string]bool)
	for round := range plan.Rounds {
		for _, c := range plan.Contenders {
			for _, n := range counts {
				name := c.Kind.Name
				if skipped[name] || ctx.Err() != nil {
					continue
				}
				label := ""
				if plan.Counts != nil {
					label = fmt.Sprintf("@%d", n)
				}
				began := time.Now()
				err := runOne(ctx, plan, c, n, label, report)
				fmt.Fprintf(plan.Out, "round %d of %d: %-12s %5d connections %6.1f s", round+1, plan.Rounds, name, n, time.Since(began).Seconds())
				switch {
				case errors.Is(err, target.ErrMissing):
					skipped[name] = true
					report.skip(name, err.Error())
					fmt.Fprintf(plan.Out, "  skipped: %v", err)
				case err != nil:
					report.fail(name, err.Error())
					errs = append(errs, err)
					fmt.Fprintf(plan.Out, "  FAILED: %v", err)
				}
				fmt.Fprintln(plan.Out)
			}
		}
	}
	report.finish()
	return report, errors.Join(append(errs, ctx.Err())...)
}

// runOne measures one contender once.
func runOne(ctx context.Context, plan Plan, c Contender, n int, label string, report *Report) error {
	var rows []measure.Row
	for _, row := range measure.Rows() {
		// Everything needs connections.
		if row.ID == "connect" || plan.wants(c, row.ID) {
			rows = append(rows, row)
		}
	}
	if len(rows) > 1 || plan.wants(c, "connect") {
		if err := runRows(ctx, plan, c, n, label, report, rows, target.Options{}); err != nil {
			return err
		}
	}
	if !plan.wants(c, measure.Recover().ID) {
		return nil
	}
	return runRows(ctx, plan, c, n, label, report, []measure.Row{measure.Recover()}, target.Options{History: true})
}

func (p Plan) wants(c Contender, row string) bool {
	return (p.Only == nil || slices.Contains(p.Only, row)) && (c.Rows == nil || slices.Contains(c.Rows, row))
}

// runRows starts the contender, takes the figures of rows and stops it.
func runRows(ctx context.Context, plan Plan, c Contender, n int, label string, report *Report, rows []measure.Row, opts target.Options) error {
	dir, err := os.MkdirTemp("", "pushcluster-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	server, err := c.Kind.Start(ctx, target.Place{Bin: plan.Bin, Dir: dir, CPU: serverCPU}, opts)
	if err != nil {
		return err
	}
	defer server.Stop()
	tokens, err := target.Tokens(n, c.channels())
	if err != nil {
		return err
	}
	rig, err := measure.NewRig(plan.Measure, server, tokens)
	if err != nil {
		return err
	}
	defer rig.Close()
	for _, row := range rows {
		figures, err := rig.Run(ctx, row)
		if errors.Is(err, target.ErrNotOffered) {
			continue
		}
		if err != nil {
			return errors.Join(err, keepLogs(dir, plan, server.Name))
		}
		report.add(server.Name, c.Kind.About, server.Column(), row.ID+label, figures)
		report.target(server.Name).Of = c.Of
	}
	return nil
}

// channels returns what a user is subscribed to besides, nil for nothing.
func (c Contender) channels() func(user int) []push.Channel {
	if c.Channels == 0 {
		return nil
	}
	return func(user int) []push.Channel {
		list := make([]push.Channel, c.Channels)
		for i := range list {
			list[i] = push.Channel(fmt.Sprintf("room:%d.%d", user, i))
		}
		return list
	}
}

// keepLogs moves what a target's processes wrote to where it can be looked at,
// and returns an error that says where, or why not.
func keepLogs(dir string, plan Plan, name string) error {
	kept := filepath.Join(plan.Bin, "logs-"+name)
	_ = os.RemoveAll(kept) // of an earlier failure
	if err := os.MkdirAll(kept, 0o700); err != nil {
		return err
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return err
	}
	for _, log := range logs {
		b, err := os.ReadFile(log)
		if err == nil {
			err = os.WriteFile(filepath.Join(kept, filepath.Base(log)), b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("logs are in %s", kept)
}
