package rule

import (
	"encoding/json"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"

	"pushcluster/shared/push"
)

// Limits of an expression.
const (
	MaxExpression = 4096   // characters
	maxNesting    = 50     // levels of parentheses, calls and literals
	maxNodes      = 10_000 // with what macros make of it
	costLimit     = 20_000 // steps, as CEL counts them; a usual rule takes 40 to 400
	checkEvery    = 16     // steps of a loop between looks at the clock
)

// newEnv returns the environment that all rules share.
func newEnv() (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.CustomTypeAdapter(adapter{types.DefaultTypeAdapter}),
		cel.Variable("body", cel.DynType),
		cel.Variable("headers", cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable("query", cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable("source", cel.StringType),
		cel.Variable("received_at", cel.TimestampType),
		cel.OptionalTypes(),
		ext.Bindings(),
		ext.TwoVarComprehensions(),
		cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(MaxExpression),
		cel.ParserRecursionLimit(maxNesting),
		cel.ExpressionNodeLimit(maxNodes),
	}
	return cel.NewEnv(append(options, textFunctions()...)...)
}

// program plans a checked expression under the bounds of this package.
func program(env *cel.Env, ast *cel.Ast) (cel.Program, error) {
	return env.Program(ast,
		cel.CustomDecoratorV2(guard),
		cel.CostTracking(prices{}),
		cel.CostLimit(costLimit),
		cel.InterruptCheckFrequency(checkEvery),
	)
}

// An adapter gives CEL the values of decoded JSON. Integers stay exact: those
// that no 64-bit integer holds are errors once an expression looks at them.
type adapter struct{ types.Adapter }

// NativeToValue returns value as CEL sees it.
func (a adapter) NativeToValue(value any) ref.Val {
	switch v := value.(type) {
	case json.Number:
		return number(v)
	case map[string]any:
		return types.NewStringInterfaceMap(a, v)
	case []any:
		return types.NewList(a, v)
	}
	return a.Adapter.NativeToValue(value)
}

func number(n json.Number) ref.Val {
	text := n.String()
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		return types.Int(i)
	}
	if u, err := strconv.ParseUint(text, 10, 64); err == nil {
		return types.Uint(u)
	}
	if !strings.ContainsAny(text, ".eE") {
		return types.NewErr("the number %s is too large to be exact", push.Clip(text, quoted))
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return types.NewErr("the number %s is out of range", push.Clip(text, quoted))
	}
	return types.Double(f)
}

// Prices charge for what a call made: CEL's own tables count text and lists that
// are joined as one step, whatever their size.
type prices struct{}

// CallCost returns the cost of a call, nil for CEL's own.
func (prices) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	size := 0
	switch {
	case function == operators.Add:
		size = sizeOf(result)
	case isText(function):
		size = sizeOf(result)
		for _, arg := range args {
			size += sizeOf(arg)
		}
	default:
		return nil
	}
	cost := uint64(1 + size/10)
	return &cost
}

// sizeOf returns the bytes of a text or the elements of a list.
func sizeOf(v ref.Val) int {
	switch v := v.(type) {
	case types.String:
		return len(v)
	case types.Bytes:
		return len(v)
	case traits.Lister:
		if n, ok := v.Size().(types.Int); ok {
			return int(n)
		}
	}
	return 0
}
