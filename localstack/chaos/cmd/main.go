// Command cmd runs the chaos scenarios and prints their table: make chaos.
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
	"syscall"
	"time"

	"pushcluster/localstack/build"
	"pushcluster/localstack/chaos"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	switch err := run(ctx, os.Args[1:], os.Stdout); {
	case err == nil:
	case errors.Is(err, errRed):
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(2)
	}
}

// errRed means that a promise was broken.
var errRed = errors.New("a row is red")

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	seed := flags.Uint64("seed", 1, "plans the run; the same seed plans the same one")
	only := flags.String("only", "", "scenarios to run, such as 1,6,9; empty: all")
	short := flags.Bool("short", false, "the short form")
	clients := flags.Int("clients", 0, "clients; 0: 1,000, in the short form 200")
	rate := flags.Int("rate", 0, "messages a second; 0: 550, in the short form 200")
	verbose := flags.Bool("v", false, "say what happens while it does")
	keep := flags.Bool("keep", false, "leave logs and store on disk where all is well, too")
	if err := flags.Parse(args); err != nil {
		return err
	}
	numbers, err := chaos.ParseOnly(*only)
	if err != nil {
		return err
	}
	root, err := build.Root()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "pushcluster-chaos")
	if err != nil {
		return err
	}
	begun := time.Now()
	rows, err := chaos.Run(ctx, chaos.Options{Root: root, Dir: dir, Out: out, Seed: *seed, Only: numbers, Short: *short,
		Clients: *clients, Rate: *rate, Verbose: *verbose, Keep: *keep})
	fmt.Fprintf(out, "\nseed %d, %s\n", *seed, time.Since(begun).Round(time.Second))
	chaos.PrintTable(out, rows)
	if err != nil {
		return err
	}
	if err := chaos.WriteJSON(filepath.Join(root, ".local", "chaos.json"), rows); err != nil {
		return err
	}
	for i := range rows {
		if rows[i].Skip == "" && !rows[i].OK() {
			fmt.Fprintln(out, "what is needed to explain it is in", dir)
			return errRed
		}
	}
	if *keep {
		fmt.Fprintln(out, "logs and stores are in", dir)
		return nil
	}
	return os.RemoveAll(dir)
}
