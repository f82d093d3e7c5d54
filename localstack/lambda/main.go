// Command lambda runs one Lambda function in a container, in the place of two
// programs that others ship:
//
//   - LocalStack's init, when LOCALSTACK_RUNTIME_ENDPOINT is set: it tells
//     LocalStack when the function is ready, takes its events and answers them;
//   - the Runtime Interface Emulator that sam local invoke asks for, otherwise:
//     it serves POST /2015-03-31/functions/function/invocations on port 8080 and
//     prints a REPORT line after each event.
//
// In both the function is /var/task/bootstrap, or what TASK_ROOT names.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"pushcluster/localstack/lambda/runtimeapi"
)

func main() {
	if err := run(context.Background(), os.Getenv, os.Environ(), os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "lambda:", err)
		os.Exit(1)
	}
}

// run serves one function until the process is told to end. What it is called
// with does not matter: sam passes a log level and the handler's name.
func run(ctx context.Context, getenv func(string) string, environ []string, stderr io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	root := cmp.Or(getenv("TASK_ROOT"), getenv("LAMBDA_TASK_ROOT"), "/var/task")
	seconds, _ := strconv.Atoi(getenv("AWS_LAMBDA_FUNCTION_TIMEOUT")) // not set: the default
	log := &tap{to: stderr}
	env := runtimeapi.New(runtimeapi.Config{
		Command: []string{filepath.Join(root, "bootstrap")}, Env: environ, Dir: root,
		Timeout: time.Duration(seconds) * time.Second, Log: log,
	})
	memory := cmp.Or(getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), "128")
	g, ctx := errgroup.WithContext(ctx)
	if endpoint := getenv("LOCALSTACK_RUNTIME_ENDPOINT"); endpoint != "" {
		l := newLocalStack(endpoint, getenv("LOCALSTACK_RUNTIME_ID"), memory, env, log)
		g.Go(func() error { return l.run(ctx, ":"+cmp.Or(getenv("LOCALSTACK_INTEROP_PORT"), "9563")) })
		g.Go(func() error { return l.sayReady(ctx) })
		g.Go(func() error { return l.sayBroken(ctx, env.Run(ctx)) })
	} else {
		rie := &emulator{env: env, memory: memory, stderr: stderr}
		g.Go(func() error { return serveHTTP(ctx, cmp.Or(getenv("LISTEN"), ":8080"), rie.handler()) })
		g.Go(func() error { return env.Run(ctx) })
	}
	return g.Wait()
}

// A tap passes on what is written to it and keeps a copy, at most 256 KiB,
// until it is drained.
type tap struct {
	to io.Writer

	mu   sync.Mutex // guards what follows
	kept []byte
}

func (t *tap) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept)+len(p) <= 256<<10 {
		t.kept = append(t.kept, p...)
	}
	return t.to.Write(p)
}

// drain returns what was written since the last drain.
func (t *tap) drain() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := string(t.kept)
	t.kept = t.kept[:0]
	return s
}
