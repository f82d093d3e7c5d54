package rule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"pushcluster/shared/push"
)

// A Spec is a rule as it is written. Each field but Name and TTL is an
// expression; an empty one says nothing.
type Spec struct {
	Name string // becomes part of message ids; 1 to 64 of A-Z a-z 0-9 _ . -

	When        string // a bool: whether the rule is for this body; empty: always
	To          To
	Event       string        // a string
	Data        string        // anything; empty: the whole body
	TTL         time.Duration // 0: the usual one
	CollapseKey string        // a string
}

// To says whom a message is for. At least one field must say something.
type To struct {
	Users    string // a list of strings, or one string
	Channels string // a list of strings, or one string
	All      string // a bool
}

// MinTTL is the shortest life of a message.
const MinTTL = time.Second

// A Rule is a Spec that has been compiled. It may be used by several goroutines.
type Rule struct {
	spec                       Spec
	when, users, channels, all *expression
	event, data, collapseKey   *expression
}

// Spec returns the rule as it was written.
func (r *Rule) Spec() Spec { return r.spec }

// An expression is one field of a rule.
type expression struct {
	field   string
	program cel.Program
}

// A Compiler compiles rules. It may be used by several goroutines.
type Compiler struct{ env *cel.Env }

// NewCompiler returns a compiler. It takes milliseconds, so one is made and kept.
func NewCompiler() (*Compiler, error) {
	env, err := newEnv()
	if err != nil {
		return nil, fmt.Errorf("rule: the environment of expressions: %w", err)
	}
	return &Compiler{env}, nil
}

// Compile compiles one rule. Its error joins an [*Error] for every field that is
// wrong.
func (c *Compiler) Compile(spec Spec) (*Rule, error) {
	r := &Rule{spec: spec}
	var errs []error
	if err := CheckName(spec.Name); err != nil {
		errs = append(errs, &Error{"name", KindCompile, err.Error()})
	}
	if spec.TTL != 0 && (spec.TTL < MinTTL || spec.TTL > push.MaxTTL) {
		errs = append(errs, &Error{"ttl", KindCompile, fmt.Sprintf("must be from %s to %s", MinTTL, push.MaxTTL)})
	}
	if spec.To == (To{}) {
		errs = append(errs, &Error{"to", KindCompile, "addresses nobody; give users, channels or all"})
	}
	text := []*cel.Type{cel.StringType}
	texts := []*cel.Type{cel.StringType, cel.ListType(cel.StringType)}
	truth := []*cel.Type{cel.BoolType}
	for _, f := range []struct {
		into  **expression
		field string
		text  string
		types []*cel.Type
	}{
		{&r.when, "when", spec.When, truth},
		{&r.users, "to.users", spec.To.Users, texts},
		{&r.channels, "to.channels", spec.To.Channels, texts},
		{&r.all, "to.all", spec.To.All, truth},
		{&r.event, "event", spec.Event, text},
		{&r.data, "data", spec.Data, nil},
		{&r.collapseKey, "collapse_key", spec.CollapseKey, text},
	} {
		if strings.TrimSpace(f.text) == "" {
			continue
		}
		e, err := c.expression(f.field, f.text, f.types)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		*f.into = e
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return r, nil
}

// expression compiles one field, whose value must be of one of want; nil: of any
// type.
func (c *Compiler) expression(field, text string, want []*cel.Type) (*expression, error) {
	if len(text) > 4*MaxExpression {
		return nil, &Error{field, KindCompile, fmt.Sprintf("the expression is longer than %d characters", MaxExpression)}
	}
	ast, issues := c.env.Parse(text)
	if issues.Err() == nil {
		if err := checkTypes(ast.NativeRep().Expr()); err != nil {
			return nil, &Error{field, KindCompile, err.Error()}
		}
		ast, issues = c.env.Check(ast)
	}
	if issues.Err() != nil {
		var reasons []string
		for _, issue := range issues.Errors() {
			reasons = append(reasons, compileReason(issue.Message, issue.Location.Line(), issue.Location.Column(), text))
			if len(reasons) == 3 {
				break
			}
		}
		return nil, &Error{field, KindCompile, strings.Join(reasons, "; ")}
	}
	if got := ast.OutputType(); !fits(got, want) {
		return nil, &Error{field, KindCompile, fmt.Sprintf("gives %s, but must give %s%s", got, names(want), conversion(want))}
	}
	p, err := program(c.env, ast)
	if err != nil {
		return nil, &Error{field, KindCompile, err.Error()}
	}
	return &expression{field, p}, nil
}

// fits reports whether a value of type got may turn out to be of one of want.
func fits(got *cel.Type, want []*cel.Type) bool {
	if got.TypeName() == "optional_type" && len(got.Parameters()) == 1 {
		got = got.Parameters()[0]
	}
	if want == nil || got.Kind() == types.DynKind || got.Kind() == types.AnyKind {
		return true
	}
	for _, w := range want {
		if w.IsAssignableType(got) {
			return true
		}
		if got.Kind() == types.ListKind && w.Kind() == types.ListKind && got.Parameters()[0].Kind() == types.DynKind {
			return true
		}
	}
	return false
}

func names(want []*cel.Type) string {
	texts := make([]string, len(want))
	for i, w := range want {
		texts[i] = w.String()
	}
	return strings.Join(texts, " or ")
}

func conversion(want []*cel.Type) string {
	if want[0] == cel.BoolType {
		return ""
	}
	return "; string(x) makes one of a number"
}

// CheckName returns nil if name may be a rule's or a source's, else an error
// that says why not.
func CheckName(name string) error {
	if name == "" || len(name) > 64 {
		return errors.New("a name has 1 to 64 characters")
	}
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.', c == '-':
		default:
			return fmt.Errorf("a name has only A-Z a-z 0-9 _ . - in it, not %q", rune(c))
		}
	}
	return nil
}
