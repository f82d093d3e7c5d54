package cli

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// page is what people read of pushctl.
const page = "../../docs/pushctl.md"

// TestDocs holds the page against the commands: every command is on it, and every
// flag and variable that it names is one.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var g grammar
	k, err := newParser(&g, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	commands, flags, variables := described(k)
	for _, command := range commands {
		if !strings.Contains(string(text), "`pushctl "+command+"`") && !strings.Contains(string(text), "`"+command+"`") {
			t.Errorf("%s does not name %q in its table", page, command)
		}
	}
	named := regexp.MustCompile("`(--[a-z-]+|[A-Z]+_[A-Z_]+)(?:[ =][^`]*)?`")
	for _, found := range named.FindAllStringSubmatch(string(text), -1) {
		if name := found[1]; !flags[name] && !variables[name] && name != "NO_COLOR" {
			t.Errorf("%s names %s, which there is not", page, name)
		}
	}
	for name := range variables {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("%s does not name the variable %s", page, name)
		}
	}
}

// described returns the commands that can be run, and all flags and variables.
func described(k *kong.Kong) (commands []string, flags, variables map[string]bool) {
	flags, variables = make(map[string]bool), make(map[string]bool)
	var walk func(node *kong.Node, path string)
	walk = func(node *kong.Node, path string) {
		for _, f := range node.Flags {
			flags["--"+f.Name] = true
			for _, name := range f.Envs {
				variables[name] = true
			}
		}
		for _, child := range node.Children {
			if !child.Hidden {
				walk(child, strings.TrimSpace(path+" "+child.Name))
			}
		}
		if len(node.Children) == 0 {
			commands = append(commands, path)
		}
	}
	walk(k.Model.Node, "")
	return commands, flags, variables
}
