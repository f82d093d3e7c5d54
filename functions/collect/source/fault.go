package source

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// A Fault is one thing that is wrong with a file, and where.
type Fault struct {
	Line, Column int    // from 1; 0: nowhere in particular
	Field        string // as in sources.github.rules[0].when; may be empty
	Reason       string // holds no secret
}

// Error returns all of it on one line.
func (f *Fault) Error() string {
	var sb strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&sb, "line %d, column %d: ", f.Line, f.Column)
	}
	if f.Field != "" {
		sb.WriteString(f.Field + ": ")
	}
	sb.WriteString(strings.ReplaceAll(f.Reason, "\n", " "))
	return sb.String()
}

// Faults returns the faults in err, in their order.
func Faults(err error) []*Fault {
	var list []*Fault
	var walk func(error)
	walk = func(err error) {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, one := range joined.Unwrap() {
				walk(one)
			}
			return
		}
		var f *Fault
		if errors.As(err, &f) {
			list = append(list, f)
		}
	}
	if err != nil {
		walk(err)
	}
	return list
}

// faultOf turns what the YAML parser says into a fault.
func faultOf(err error) *Fault {
	f := &Fault{Reason: "not YAML: " + firstLine(err.Error())}
	var syntax yaml.Error
	if errors.As(err, &syntax) {
		f.Reason = "not YAML: " + firstLine(syntax.GetMessage())
		if t := syntax.GetToken(); t != nil && t.Position != nil {
			f.Line, f.Column = t.Position.Line, t.Position.Column
		}
	}
	return f
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	if len(line) > 200 {
		line = strings.ToValidUTF8(line[:200], "") + "…"
	}
	return line
}

// position returns where node begins.
func position(node ast.Node) (line, column int) {
	if node == nil {
		return 0, 0
	}
	// The token of a mapping is the colon of its first field.
	if m, ok := node.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
		return position(m.Values[0].Key)
	}
	if m, ok := node.(*ast.MappingValueNode); ok {
		return position(m.Key)
	}
	t := node.GetToken()
	if t == nil || t.Position == nil {
		return 0, 0
	}
	return t.Position.Line, t.Position.Column
}
