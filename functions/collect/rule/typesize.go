package rule

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// maxTypeSize bounds the types in an expression, in names: map(string, int) has
// three. The checker writes types out, so what a loop or a binding makes of its
// variable doubles: in 300 characters an expression can have types of a million
// names, and the checker would not end.
const maxTypeSize = 64

// checkTypes returns an error if the checker could meet a type that is too large
// in the parsed expression e.
func checkTypes(e ast.Expr) error {
	s := typeSizes{vars: map[string]int{"headers": 3, "query": 3}}
	s.of(e)
	if s.largest > maxTypeSize {
		return fmt.Errorf("lists and maps nest too deeply in its loops and bindings; write dyn(…) around what they make")
	}
	return nil
}

// typeSizes estimates sizes of types, never too small but for what is over the
// bound already.
type typeSizes struct {
	vars    map[string]int // of variables that loops and bindings make; others have 1
	largest int
}

// of returns the size of e's type.
func (s *typeSizes) of(e ast.Expr) int {
	size := min(s.measure(e), maxTypeSize+1)
	s.largest = max(s.largest, size)
	return size
}

func (s *typeSizes) measure(e ast.Expr) int {
	switch e.Kind() {
	case ast.IdentKind:
		return max(1, s.vars[e.AsIdent()])
	case ast.SelectKind:
		sel := e.AsSelect()
		size := s.of(sel.Operand())
		if sel.IsTestOnly() {
			return 1
		}
		return size
	case ast.ListKind:
		return 1 + s.largestOf(e.AsList().Elements())
	case ast.MapKind:
		key, value := 1, 1
		for _, entry := range e.AsMap().Entries() {
			key = max(key, s.of(entry.AsMapEntry().Key()))
			value = max(value, s.of(entry.AsMapEntry().Value()))
		}
		return 1 + key + value
	case ast.CallKind:
		return s.call(e.AsCall())
	case ast.ComprehensionKind:
		return s.comprehension(e.AsComprehension())
	}
	return 1
}

func (s *typeSizes) largestOf(list []ast.Expr) int {
	largest := 1
	for _, e := range list {
		largest = max(largest, s.of(e))
	}
	return largest
}

func (s *typeSizes) call(c ast.CallExpr) int {
	args := c.Args()
	if c.IsMemberFunction() {
		args = append([]ast.Expr{c.Target()}, args...)
	}
	largest, sum := 1, 1
	for _, arg := range args {
		size := s.of(arg)
		largest, sum = max(largest, size), sum+size
	}
	switch name := c.FunctionName(); {
	case name == operators.Equals, name == operators.NotEquals, name == operators.LogicalAnd,
		name == operators.LogicalOr, name == operators.LogicalNot, name == operators.In,
		name == operators.NotStrictlyFalse, name == "dyn", isText(name):
		return 1
	case name == operators.Add, name == operators.Conditional, name == operators.Index:
		return largest
	case strings.HasPrefix(name, "cel.@"): // what macros become: a map of two of its arguments
		return 1 + sum
	}
	return 1 + largest
}

func (s *typeSizes) comprehension(c ast.ComprehensionExpr) int {
	element := s.of(c.IterRange())
	result := s.of(c.AccuInit())
	undo := s.bind(c.AccuVar(), result)
	inner := []func(){s.bind(c.IterVar(), element)}
	if c.HasIterVar2() {
		inner = append(inner, s.bind(c.IterVar2(), element))
	}
	s.of(c.LoopCondition())
	result = max(result, s.of(c.LoopStep()))
	for _, f := range inner {
		f()
	}
	s.vars[c.AccuVar()] = result
	size := s.of(c.Result())
	undo()
	return size
}

// bind gives a variable a size and returns what takes it away again.
func (s *typeSizes) bind(name string, size int) (undo func()) {
	old, was := s.vars[name]
	s.vars[name] = size
	return func() {
		if was {
			s.vars[name] = old
		} else {
			delete(s.vars, name)
		}
	}
}
