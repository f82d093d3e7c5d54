package rule

import (
	"context"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// WhyNot says why r is not for in, for whoever wrote it: which of the conditions
// that && joins in when is the first to be false. It is for a rule whose
// [Rule.Eval] gave no message and no error.
func (c *Compiler) WhyNot(ctx context.Context, r *Rule, in *Input) string {
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	parts := c.conditions(r.spec.When)
	if len(parts) > 1 {
		for _, part := range parts {
			e, err := c.expression("when", part, []*cel.Type{cel.BoolType})
			if err != nil { // parentheses around several; then all of it is told
				break
			}
			if truth, err := e.bool(ctx, in, true); err == nil && !truth {
				return "when is false, for this is: " + oneLine(part)
			}
		}
	}
	return "when is false: " + oneLine(r.spec.When)
}

// conditions cuts text at every && that is not within something else.
func (c *Compiler) conditions(text string) []string {
	parsed, issues := c.env.Parse(text)
	if issues.Err() != nil {
		return nil
	}
	native := parsed.NativeRep()
	var at []int
	var walk func(ast.Expr)
	walk = func(e ast.Expr) {
		if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != operators.LogicalAnd {
			return
		}
		if where, ok := native.SourceInfo().GetOffsetRange(e.ID()); ok {
			at = append(at, int(where.Start))
		}
		for _, arg := range e.AsCall().Args() {
			walk(arg)
		}
	}
	walk(native.Expr())
	slices.Sort(at)
	letters := []rune(text) // what offsets count
	var parts []string
	from := 0
	for _, i := range append(at, len(letters)) {
		if i < from || i > len(letters) {
			return nil
		}
		parts = append(parts, strings.TrimSpace(string(letters[from:i])))
		from = min(i+2, len(letters))
	}
	return parts
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
