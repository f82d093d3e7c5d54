// Pushctl is the command line for those who operate pushcluster or develop
// against it. It speaks HTTP with Collect and Auth, and the client protocol with
// a push node; it needs nothing of the machines they run on. docs/pushctl.md
// tells of every command.
package main

import (
	"context"
	"os"

	"pushcluster/pushctl/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
