// Command ferretdb serves the MongoDB wire protocol from SQLite files: FerretDB
// v1 as a program of its own, so that the tests reach a MongoDB where mongod
// cannot be installed. It has a Go module of its own because FerretDB brings a
// hundred others, none of which the product needs.
//
// It prints one line on standard output, the mongodb:// URL at which it
// answers, and serves until SIGTERM, SIGINT or SIGHUP, or until standard input
// ends if -stdin is given.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"

	"pushcluster/localstack/ferretdb/front"
)

func main() {
	err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "ferretdb:", err)
		os.Exit(1)
	}
}

// run serves until it is told to stop, and returns once everything is closed.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("ferretdb", flag.ContinueOnError)
	flags.SetOutput(stderr)
	listen := flags.String("listen", "127.0.0.1:0", "address to listen on; port 0 takes a free one")
	dir := flags.String("dir", "", "directory that holds the databases; made if missing (required)")
	watch := flags.Bool("stdin", false, "stop when standard input ends, that is when whoever started this is gone")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		return errors.New("-dir is missing: name the directory that holds the databases")
	}
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return fmt.Errorf("make the databases' directory: %w", err)
	}
	abs, err := filepath.Abs(*dir)
	if err != nil {
		return fmt.Errorf("resolve %s: %w", *dir, err)
	}

	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	if *watch {
		var gone context.CancelFunc
		ctx, gone = context.WithCancel(ctx)
		// This one is not waited for: a read of standard input cannot be
		// interrupted, and the process ends anyway.
		go func() {
			defer gone()
			_, _ = io.Copy(io.Discard, stdin)
		}()
	}

	return serve(ctx, *listen, abs, stdout, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError})))
}

// serve answers at listen, behind a front, until ctx ends. It prints the URL
// to stdout once connections are accepted.
func serve(ctx context.Context, listen, dir string, stdout io.Writer, log *slog.Logger) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err // names the address itself
	}
	db, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: "127.0.0.1:0"},
		Handler:   "sqlite",
		SQLiteURL: (&url.URL{Scheme: "file", Opaque: dir + "/"}).String(),
		Logger:    log,
	})
	if err != nil {
		_ = l.Close()
		return fmt.Errorf("start FerretDB: %w", err)
	}

	// The front ends first: what it has passed on is still answered.
	served := make(chan error, 1)
	behind, stop := context.WithCancel(context.WithoutCancel(ctx))
	go func() { served <- db.Run(behind) }()
	defer func() {
		stop()
		<-served
	}()
	backend, err := url.Parse(db.MongoDBURI())
	if err != nil {
		_ = l.Close()
		return fmt.Errorf("parse FerretDB's own URL: %w", err)
	}
	fmt.Fprintf(stdout, "mongodb://%s/\n", l.Addr())
	return front.New(backend.Host).Serve(ctx, l)
}
