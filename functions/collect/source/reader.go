package source

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"pushcluster/shared/push"
)

// A reader walks the nodes of a file and collects faults. It follows no alias:
// nobody needs one here, and a file of a few lines could stand for gigabytes.
type reader struct{ faults []error }

func (r *reader) fault(at ast.Node, field, format string, args ...any) {
	line, column := position(at)
	r.faults = append(r.faults, &Fault{line, column, field, fmt.Sprintf(format, args...)})
}

// A field is one entry of a mapping.
type field struct{ key, value ast.Node }

// quoted bounds, in bytes, what a fault repeats of the file.
const quoted = 60

// A mapping is the entries of one mapping node by their names.
type mapping struct {
	node   ast.Node
	path   string
	names  []string // in their order
	fields map[string]field
}

// at returns the node that a fault of the field name is shown at: the value, or
// the mapping where there is none.
func (m mapping) at(name string) ast.Node {
	if f, ok := m.fields[name]; ok {
		return f.value
	}
	return m.node
}

// in returns the path of the field name.
func (m mapping) in(name string) string {
	if m.path == "" {
		return name
	}
	return m.path + "." + name
}

// mapping reads node, whose fields must be of known; nil: any.
func (r *reader) mapping(node ast.Node, path string, known []string) (mapping, bool) {
	m := mapping{node: node, path: path, fields: make(map[string]field)}
	var entries []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		entries = n.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{n}
	default:
		r.fault(node, path, "must be a mapping of fields, not %s", kind(node))
		return m, false
	}
	for _, entry := range entries {
		key, ok := entry.Key.(ast.Node)
		if !ok {
			continue
		}
		name, isText := text(key)
		switch {
		case !isText:
			r.fault(key, path, "the name of a field must be a plain text, not %s", kind(key))
			continue
		case known != nil && !slices.Contains(known, name):
			r.fault(key, m.in(push.Clip(name, quoted)), "there is no such field; there are %s", strings.Join(known, ", "))
			continue
		}
		if _, twice := m.fields[name]; twice {
			r.fault(key, m.in(push.Clip(name, quoted)), "is there twice")
			continue
		}
		m.names = append(m.names, name)
		m.fields[name] = field{key, entry.Value}
	}
	return m, true
}

// list reads node as a list; a single value is a list of one.
func (r *reader) list(node ast.Node, path string, most int) []ast.Node {
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		if isNull(node) {
			return nil
		}
		return []ast.Node{node}
	}
	if len(sequence.Values) > most {
		r.fault(node, path, "has %d entries, more than %d", len(sequence.Values), most)
		return sequence.Values[:most]
	}
	return sequence.Values
}

// scalar reads one field of m as text: true is "true" and 1 is "1".
func (r *reader) scalar(m mapping, name string) string {
	f, ok := m.fields[name]
	if !ok || isNull(f.value) {
		return ""
	}
	s, ok := text(f.value)
	if !ok {
		r.fault(f.value, m.in(name), "must be one text, not %s; put quotes around all of it", kind(f.value))
	}
	return s
}

// duration reads one field of m, 0 if it is not there.
func (r *reader) duration(m mapping, name string) time.Duration {
	s := r.scalar(m, name)
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		r.fault(m.at(name), m.in(name), `must be a duration like "90s" or "72h"`)
		return 0
	}
	if d <= 0 {
		r.fault(m.at(name), m.in(name), "must be more than 0")
		return 0
	}
	return d
}

// text returns what a scalar says.
func text(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		if n.Value == nil {
			return "", true
		}
		return n.Value.Value, true
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func isNull(node ast.Node) bool {
	_, null := node.(*ast.NullNode)
	return null || node == nil
}

// kind says what a node is, for people.
func kind(node ast.Node) string {
	switch node.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "an anchor or alias, which are not followed here"
	case *ast.TagNode:
		return "a value with a tag"
	}
	return "a single value"
}
