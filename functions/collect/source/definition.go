package source

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/goccy/go-yaml/ast"
)

// Definition returns what a file of sources has under name, in JSON, for
// [ParseSource]. Its scalars are texts, as Parse reads them: a secret of digits
// keeps every one. whole is false, and nothing else is told, where text is no
// such file. An error that joins [*Fault]s says what cannot be read of the source.
func Definition(text []byte, name string) (definition []byte, whole bool, err error) {
	root, err := document(text)
	if err != nil || root == nil {
		return nil, false, nil
	}
	var r reader
	top, ok := r.mapping(root, "", nil)
	f, given := top.fields["sources"]
	if !ok || !given {
		return nil, false, nil
	}
	sources, ok := r.mapping(f.value, "sources", nil)
	if !ok {
		return nil, false, nil
	}
	one, ok := sources.fields[name]
	if !ok {
		return nil, true, fmt.Errorf("it has no source %q", name)
	}
	r.faults = nil // those of other sources
	value := r.plain(one.value, sources.in(name))
	if len(r.faults) > 0 {
		return nil, true, errors.Join(r.faults...)
	}
	definition, err = json.Marshal(value)
	return definition, true, err
}

// plain reads node as mappings, lists and texts.
func (r *reader) plain(node ast.Node, path string) any {
	switch n := node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		m, _ := r.mapping(node, path, nil)
		object := make(map[string]any, len(m.fields))
		for name, f := range m.fields {
			object[name] = r.plain(f.value, m.in(name))
		}
		return object
	case *ast.SequenceNode:
		list := make([]any, len(n.Values))
		for i, value := range n.Values {
			list[i] = r.plain(value, fmt.Sprintf("%s[%d]", path, i))
		}
		return list
	}
	if isNull(node) {
		return nil
	}
	s, ok := text(node)
	if !ok {
		r.fault(node, path, "must be a mapping, a list or a text, not %s", kind(node))
	}
	return s
}
