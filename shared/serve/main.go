package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// A Program is what a main function runs. C is its configuration: see [Load].
type Program[C any] struct {
	Name  string
	About string // one sentence for -h
	// Run wires the parts and returns when ctx ends, which a signal to stop has it
	// do, or when it cannot go on. Its error wraps [ErrConfig] if it is one of the
	// configuration after all. It logs to stderr.
	Run func(ctx context.Context, cfg C, stderr io.Writer) error
	// Garbage is how many bytes of it may gather beyond what Go allows before it
	// is collected, unless GOGC or GOMEMLIMIT is set. A Lambda function, which has
	// one request at a time, keeps Go's own rule.
	Garbage int
}

// Main runs p with the process' arguments, environment and signals, and returns
// the exit code: 0 for a clean end, 1 for an error, 2 for a configuration that
// cannot be used. A second signal ends the process at once: see [UntilStopped].
// Where AWS_LAMBDA_RUNTIME_API is set, p is a Lambda function: see [Start].
func Main[C any](p Program[C]) int {
	ctx, stop := UntilStopped(context.Background())
	defer stop()
	return p.main(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
}

func (p Program[C]) main(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		switch args[0] {
		case "-h", "-help", "--help":
			Usage[C](stdout, p.Name, p.About)
			return 0
		}
		fmt.Fprintf(stderr, "%s: there is no argument %q; %s -h lists the environment variables\n", p.Name, args[0], p.Name)
		return 2
	}
	if getenv(runtimeAPI) != "" {
		return p.function(ctx, getenv, stderr, listenLambda)
	}
	cfg, err := Load[C](ctx, getenv)
	if err != nil {
		p.complain(stderr, err)
		return 2
	}
	defer moreGarbage(p.Garbage, getenv)()
	err = p.Run(ctx, cfg, stderr)
	told := ctx.Err() != nil && errors.Is(err, context.Canceled) // to stop: then this is no failure
	switch {
	case err == nil, told:
		return 0
	case errors.Is(err, ErrConfig):
		p.complain(stderr, err)
		return 2
	}
	fmt.Fprintf(stderr, "%s: %v\n", p.Name, err)
	return 1
}

// complain tells what is wrong with the configuration, a line for each thing.
func (p Program[C]) complain(stderr io.Writer, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(stderr, "%s: %s\n", p.Name, line)
	}
	fmt.Fprintf(stderr, "%s: -h lists the environment variables\n", p.Name)
}
