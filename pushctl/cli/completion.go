package cli

import (
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// The scripts that have a shell ask pushctl itself.
var (
	//go:embed completion.bash
	bashScript string
	//go:embed completion.zsh
	zshScript string
	//go:embed completion.fish
	fishScript string
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is what completion --help tells besides.
func (*completionCmd) Help() string {
	return `To have it in every new shell:
  bash  pushctl completion bash > ~/.local/share/bash-completion/completions/pushctl
  zsh   pushctl completion zsh > ~/.zfunc/_pushctl   (with fpath+=~/.zfunc before compinit in ~/.zshrc)
  fish  pushctl completion fish > ~/.config/fish/completions/pushctl.fish`
}

// Run prints the script of a shell.
func (c *completionCmd) Run(s *session) error {
	_, err := io.WriteString(s.out.Out, map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[c.Shell])
	return err
}

// completeCmd is what those scripts call, with all words up to the cursor, the
// last one unfinished and perhaps empty.
type completeCmd struct {
	Words []string `arg:"" optional:""`
}

// Run prints what the last word may become, one a line, with its help behind a
// tab. Nothing means a file.
func (c *completeCmd) Run(s *session) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	for _, one := range complete(s.parser.Model.Node, words) {
		if _, err := fmt.Fprintln(s.out.Out, one); err != nil {
			return err
		}
	}
	return nil
}

// complete returns what the last of words may become below root.
func complete(root *kong.Node, words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	node, flag, places := descend(root, words[:len(words)-1])
	if flag != nil {
		return among(last, flag.Value)
	}
	if name, value, ok := strings.Cut(last, "="); ok && strings.HasPrefix(name, "--") {
		f := flagOf(node, name)
		if f == nil {
			return nil
		}
		var found []string
		for _, one := range among(value, f.Value) {
			found = append(found, name+"="+one)
		}
		return found
	}
	var found []string
	add := func(name, help string) {
		if strings.HasPrefix(name, last) {
			help, _, _ = strings.Cut(help, ". ")
			found = append(found, name+"\t"+strings.TrimSuffix(help, "."))
		}
	}
	for _, child := range node.Children {
		if !child.Hidden {
			add(child.Name, child.Help)
		}
	}
	if strings.HasPrefix(last, "-") {
		for _, f := range flagsOf(node) {
			if !f.Hidden {
				add("--"+f.Name, f.Help)
			}
		}
	}
	if places < len(node.Positional) {
		found = append(found, among(last, node.Positional[places])...)
	}
	slices.Sort(found)
	return found
}

// descend follows the words that are complete: to the command that they select,
// the flag that waits for its value, if one does, and how many places are taken.
func descend(node *kong.Node, words []string) (at *kong.Node, waits *kong.Flag, places int) {
	for _, word := range words {
		switch {
		case waits != nil:
			waits = nil
		case strings.HasPrefix(word, "-") && word != "-":
			name, _, given := strings.Cut(word, "=")
			if f := flagOf(node, name); f != nil && !f.IsBool() && !given {
				waits = f
			}
		default:
			child := childOf(node, word)
			if child == nil {
				places++
				continue
			}
			node, places = child, 0
		}
	}
	return node, waits, places
}

func childOf(node *kong.Node, word string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == word || slices.Contains(child.Aliases, word) {
			return child
		}
	}
	return nil
}

// flagsOf returns the flags that count at node: its own and those above.
func flagsOf(node *kong.Node) []*kong.Flag {
	var flags []*kong.Flag
	for ; node != nil; node = node.Parent {
		flags = append(flags, node.Flags...)
	}
	return flags
}

func flagOf(node *kong.Node, word string) *kong.Flag {
	for _, f := range flagsOf(node) {
		if word == "--"+f.Name || (f.Short != 0 && word == "-"+string(f.Short)) {
			return f
		}
	}
	return nil
}

// among returns the values that v may have and that begin with last.
func among(last string, v *kong.Value) []string {
	var found []string
	for _, one := range v.EnumSlice() {
		if v.Enum != "" && strings.HasPrefix(one, last) {
			found = append(found, one)
		}
	}
	return found
}
