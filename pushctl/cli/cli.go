// Package cli is what pushctl understands: its commands, each in a file with its
// like, what they take from flags, the environment and stack.json, and how what
// went wrong is told.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/alecthomas/kong"

	"pushcluster/pushctl/show"
	"pushcluster/shared/serve"
	"pushcluster/shared/telemetry"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // it was tried, and did not do all that it should
	exitUsage  = 2 // it was not tried: the command line is wrong
)

// A grammar is the whole command line, as kong reads it.
type grammar struct {
	settings

	Send    sendCmd    `cmd:"" group:"Messages" help:"Send a message, or many from a file."`
	Message messageCmd `cmd:"" group:"Messages" help:"Tell what became of a message, device by device."`
	Cancel  cancelCmd  `cmd:"" group:"Messages" help:"Take a scheduled message back."`
	Parked  parkedCmd  `cmd:"" group:"Messages" help:"List what could not be delivered, and decide about it."`

	Tail   tailCmd   `cmd:"" group:"Users" help:"Print a user's messages as they come."`
	Token  tokenCmd  `cmd:"" group:"Users" help:"Have Auth mint a connection token."`
	User   userCmd   `cmd:"" group:"Users" help:"Tell a user's connections and devices."`
	Kick   kickCmd   `cmd:"" group:"Users" help:"Close a user's connections. Clients stay away until they are told to connect."`
	Revoke revokeCmd `cmd:"" group:"Users" help:"Have a user's tokens, or one token, count no more."`

	Deliveries deliveriesCmd `cmd:"" group:"Webhooks" help:"Tell what came of a source, and what its rules made of it."`
	Replay     replayCmd     `cmd:"" group:"Webhooks" help:"Have deliveries go through the rules of now."`
	DryRun     dryRunCmd     `cmd:"" group:"Webhooks" help:"Tell what other rules would make of what came. Nothing is sent."`
	Callbacks  callbacksCmd  `cmd:"" group:"Webhooks" help:"List which sources could not be told of their messages, and decide about it."`
	Sources    sourcesCmd    `cmd:"" group:"Webhooks" help:"Tell, change and check who may post webhooks."`
	Rules      rulesCmd      `cmd:"" group:"Webhooks" help:"Try rules on an event, without a server."`

	Nodes  nodesCmd  `cmd:"" group:"Cluster" help:"List the push nodes that are alive."`
	Status statusCmd `cmd:"" group:"Cluster" aliases:"ping" help:"Tell whether every service is ready."`

	Completion completionCmd `cmd:"" group:"Other" help:"Print what a shell needs to complete pushctl's commands."`
	Complete   completeCmd   `cmd:"" hidden:"" name:"__complete" passthrough:""`

	Version kong.VersionFlag `help:"Print the version."`
}

const about = `The command line of pushcluster: send messages, watch them arrive, and see what a cluster does.

It asks Collect (--url), Auth (--auth) and a push node (--node). When nothing says where those are and
.local/stack.json is there, it takes what "make run" has written into that. Exit codes: 0 it is done,
1 it failed, 2 the command line is wrong.`

// Main runs pushctl with args (without the program's name) and returns its exit
// code. Without args it tells what there is, on stderr. It ends early at an
// interrupt, also while it waits for stdin; a second one ends the process: see
// [serve.UntilStopped].
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := serve.UntilStopped(ctx)
	defer stop()
	var g grammar
	k, err := newParser(&g, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "pushctl:", err)
		return exitFailed
	}
	if len(args) == 0 {
		k.Stdout = stderr
		parse(k, []string{"--help"}, stderr)
		return exitUsage
	}
	parsed, code, ended := parse(k, args, stderr)
	if ended {
		return code
	}
	s := &session{
		settings: g.settings, parser: k, stdin: abandonable(ctx, stdin), stderr: stderr, now: time.Now, getenv: os.Getenv,
		out: &show.Printer{Out: stdout, JSON: g.JSON, Colour: coloured(g.Colour, stdout, os.Getenv)},
	}
	defer s.close()
	parsed.BindTo(ctx, (*context.Context)(nil))
	return s.tell(ctx, parsed.Run(s))
}

// newParser returns the parser of g.
func newParser(g *grammar, stdout, stderr io.Writer) (*kong.Kong, error) {
	return kong.New(g,
		kong.Name("pushctl"), kong.Description(about), kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, WrapUpperBound: 110}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "Messages", Title: "Messages"}, {Key: "Users", Title: "Users"}, {Key: "Webhooks", Title: "Webhooks"},
			{Key: "Cluster", Title: "Cluster"}, {Key: "Other", Title: "Other"},
		}),
		kong.Vars{"version": "pushctl " + telemetry.Version()},
	)
}

// exit is how kong ends after --help and --version, which must not end the
// process of whoever calls Main.
type exit int

// parse reads args. If ended is true there is nothing to run, and code is the
// exit code.
func parse(k *kong.Kong, args []string, stderr io.Writer) (parsed *kong.Context, code int, ended bool) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case exit:
			parsed, code, ended = nil, int(e), true
		default:
			panic(e)
		}
	}()
	parsed, err := k.Parse(args)
	if err == nil {
		return parsed, exitOK, false
	}
	fmt.Fprintln(stderr, "pushctl:", err)
	command := "pushctl"
	if wrong, ok := errors.AsType[*kong.ParseError](err); ok && wrong.Context != nil && wrong.Context.Selected() != nil {
		command = wrong.Context.Selected().FullPath()
	}
	fmt.Fprintf(stderr, "See %s --help.\n", command)
	return nil, exitUsage, true
}

// coloured decides whether there are colours on stdout.
func coloured(wish string, stdout io.Writer, getenv func(string) string) bool {
	switch wish {
	case "always":
		return true
	case "never":
		return false
	}
	return show.Interactive(stdout) && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}
