// Localstack runs the whole of pushcluster on this machine, in one process:
// Auth, Collect, Dispatch, push nodes, a page to watch, the store in SQLite and
// Redis embedded. Run it with -h for its environment variables.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"pushcluster/localstack/stack"
	"pushcluster/pushnode/node"
	"pushcluster/shared/registry"
	"pushcluster/shared/serve"
)

// startTimeout bounds the start. Seconds are enough on a slow machine.
const startTimeout = 30 * time.Second

// Config is what the environment says. Ports are of 127.0.0.1.
type Config struct {
	Nodes    int    `env:"NODES" envDefault:"2" help:"how many push nodes, 1 to 50"`
	RedisURL string `env:"REDIS_URL" secret:"true" help:"a Redis to use instead of the embedded one: redis://host:6379/0"`
	StoreURL string `env:"STORE_URL" secret:"true" help:"a store to use instead of the SQLite file: mongodb://host/database"`
	LocalDir string `env:"LOCAL_DIR" envDefault:".local" help:"directory of messages, keys, sources.yaml and stack.json; a second stack needs one of its own, beside other ports"`

	PagePort             int `env:"PAGE_PORT" envDefault:"8700" help:"port of the page, on 127.0.0.1 as all of them"`
	AuthPort             int `env:"AUTH_PORT" envDefault:"8701" help:"port of Auth"`
	CollectPort          int `env:"COLLECT_PORT" envDefault:"8702" help:"port of Collect"`
	DispatchPort         int `env:"DISPATCH_PORT" envDefault:"8703" help:"port of Dispatch"`
	NodePort             int `env:"NODE_PORT" envDefault:"8711" help:"port of the first node; the others follow"`
	AuthInternalPort     int `env:"AUTH_INTERNAL_PORT" envDefault:"8801" help:"internal port of Auth: /metrics, profiles"`
	CollectInternalPort  int `env:"COLLECT_INTERNAL_PORT" envDefault:"8802" help:"internal port of Collect"`
	DispatchInternalPort int `env:"DISPATCH_INTERNAL_PORT" envDefault:"8803" help:"internal port of Dispatch"`
	NodeInternalPort     int `env:"NODE_INTERNAL_PORT" envDefault:"8811" help:"internal port of the first node; the others follow"`

	Sources  string       `env:"SOURCES" help:"a file of webhook sources to use instead of sources.yaml in LOCAL_DIR"`
	Origins  node.Origins `env:"ORIGINS" help:"page origins that may connect besides the page, as http://localhost:3000, separated by commas; * for all"`
	LogLevel slog.Level   `env:"LOG_LEVEL" envDefault:"WARN" help:"DEBUG, INFO, WARN or ERROR"`
}

// Check returns what is wrong with c as a whole.
func (c *Config) Check() error {
	if c.Nodes < 1 || c.Nodes > 50 {
		return fmt.Errorf("NODES: %d is not between 1 and 50", c.Nodes)
	}
	return nil
}

func (c *Config) ports() stack.Ports {
	return stack.Ports{
		Page: c.PagePort,
		Auth: c.AuthPort, AuthInternal: c.AuthInternalPort,
		Collect: c.CollectPort, CollectInternal: c.CollectInternalPort,
		Dispatch: c.DispatchPort, DispatchInternal: c.DispatchInternalPort,
		Node: c.NodePort, NodeInternal: c.NodeInternalPort,
	}
}

func main() {
	os.Exit(serve.Main(serve.Program[Config]{
		Name: "localstack", About: "the whole of pushcluster in one process",
		Run: func(ctx context.Context, cfg Config, stderr io.Writer) error { return run(ctx, cfg, os.Stdout, stderr) },
	}))
}

func run(ctx context.Context, cfg Config, stdout, stderr io.Writer) error {
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: cfg.LogLevel}))
	registry.LogTo(log)
	if err := os.MkdirAll(cfg.LocalDir, 0o700); err != nil {
		return err
	}
	factsFile := filepath.Join(cfg.LocalDir, "stack.json")
	// Two on one store, each with a Redis of its own, would deliver nothing: neither
	// finds its term in the store.
	mine, ok, err := lock(filepath.Join(cfg.LocalDir, "lock"))
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("another one runs in %s already%s; stop it, or give this one a LOCAL_DIR and ports of its own (-h lists them)",
			cfg.LocalDir, pageOf(factsFile))
	}
	defer mine.Close()
	keys, err := stack.LoadKeys(filepath.Join(cfg.LocalDir, "keys.json"))
	if err != nil {
		return err
	}
	// Those of one that was killed: scripts wait for the file to appear.
	if err := stack.RemoveFacts(factsFile); err != nil {
		return err
	}

	fmt.Fprint(stdout, "pushcluster starts … ")
	began := time.Now()
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	s, err := stack.Start(starting, stack.Config{
		Dir: cfg.LocalDir, Nodes: cfg.Nodes, StoreURL: cfg.StoreURL, RedisURL: cfg.RedisURL,
		Keys: keys, Ports: cfg.ports(), Origins: cfg.Origins, Sources: cfg.Sources, Log: log,
	})
	cancel()
	switch {
	case err != nil && ctx.Err() != nil: // what it says is what the stop did to the start
		fmt.Fprintln(stdout, "stopped before it was ready")
		return nil
	case err != nil:
		fmt.Fprintln(stdout, "and could not:")
		return err
	}
	fmt.Fprintf(stdout, "ready after %.1f s\n", time.Since(began).Seconds())
	return errors.Join(watch(ctx, s, factsFile, stdout), closeStack(s, stdout))
}

// watch tells whoever started the stack, and scripts, where it is, and returns
// when ctx ends or a part of the stack does.
func watch(ctx context.Context, s *stack.Stack, factsFile string, stdout io.Writer) error {
	facts, err := s.Facts()
	if err != nil {
		return err
	}
	if err := facts.Write(factsFile); err != nil {
		return err
	}
	tell(stdout, facts)
	return errors.Join(s.Wait(ctx), stack.RemoveFacts(factsFile))
}

func closeStack(s *stack.Stack, stdout io.Writer) error {
	fmt.Fprint(stdout, "\npushcluster stops … ")
	err := s.Close()
	if err == nil {
		fmt.Fprintln(stdout, "done; messages are kept")
	}
	return err
}

// tell prints what a newcomer needs next.
func tell(w io.Writer, f stack.Facts) {
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	row := func(what, where string) { fmt.Fprintf(table, "  %s\t%s\n", what, where) }
	row("page", f.Page+"   <- open it: messages show up here")
	row("Auth", f.Auth)
	row("Collect", f.Collect)
	row("Dispatch", f.Dispatch)
	for i, n := range f.Nodes {
		row(fmt.Sprintf("node %d", i+1), stack.WebSocketURL(n.Public)+"   internal "+n.Internal)
	}
	table.Flush()
	fmt.Fprintf(w, "\nA token of user %s, for an SDK:\n\n  %s\n", stack.DemoUser, f.Token)
	fmt.Fprintf(w, "\nSend user %s a message:\n\n"+
		"  curl %s/v1/messages -H 'X-API-Key: %s' -d '{\"to\":{\"users\":[\"%[1]s\"]},\"event\":\"greeting\",\"data\":{\"text\":\"Hello\"}}'\n",
		stack.DemoUser, f.Collect, f.APIKey)
	if github, ok := f.Sources["github"]; ok {
		fmt.Fprintf(w, "\nPost a webhook as GitHub does, which asks user %s for a review:\n\n"+
			"  curl %s -H \"X-GitHub-Delivery: $(date +%%s)\" -H 'X-GitHub-Event: pull_request' -H 'X-Hub-Signature-256: %s' -d '%s'\n",
			stack.DemoUser, github.URL, stack.SignGitHub(github.Secret, stack.SampleWebhook), stack.SampleWebhook)
	}
	fmt.Fprintln(w, "\nCtrl-C stops it.")
}

// pageOf says where the page is of the stack that wrote its facts to path, ""
// where that is not known yet.
func pageOf(path string) string {
	facts, err := stack.ReadFacts(path)
	if err != nil {
		return ""
	}
	return ", with its page at " + facts.Page
}
