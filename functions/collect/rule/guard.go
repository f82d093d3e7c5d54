package rule

import (
	"errors"
	"fmt"
	"regexp"

	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// CEL charges for a call when it is over and looks at the clock between the
// steps of a loop, so a single call must not be able to do much. The calls whose
// work their arguments do not bound are replaced here by ones that look first:
// == and in compare trees, which may be far larger than the memory they take,
// and matches walks a text once per instruction of its pattern.

// Limits of single calls.
const (
	maxCompared = 20_000   // values and pieces of text in what is compared
	maxMatched  = 32 << 10 // bytes of a text that is matched
	maxPattern  = 300      // instructions of a compiled pattern
)

// guard replaces the calls that need a look at their arguments.
func guard(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	call, ok := i.(interpreter.InterpretableCall)
	if !ok || len(call.Args()) != 2 {
		return i, nil
	}
	replace := func(impl func(a, b ref.Val) ref.Val) (interpreter.InterpretableV2, error) {
		return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(),
			func(values ...ref.Val) ref.Val { return impl(values[0], values[1]) }), nil
	}
	switch call.Function() {
	case operators.Equals:
		return replace(func(a, b ref.Val) ref.Val { return compare(a, b, types.Equal) })
	case operators.NotEquals:
		return replace(func(a, b ref.Val) ref.Val {
			return compare(a, b, func(a, b ref.Val) ref.Val { return types.Bool(types.Equal(a, b) != types.True) })
		})
	case operators.In, operators.OldIn:
		return replace(func(a, b ref.Val) ref.Val { return compare(a, b, contains) })
	case overloads.Matches:
		re, err := pattern(call.Args()[1])
		if err != nil {
			return nil, err
		}
		return replace(func(text, _ ref.Val) ref.Val { return match(re, text) })
	}
	return i, nil
}

// compare does what f does, if the trees of a and b are small enough.
func compare(a, b ref.Val, f func(a, b ref.Val) ref.Val) ref.Val {
	budget := maxCompared
	if !spend(a, &budget) || !spend(b, &budget) {
		return types.NewErr("what is compared is too large: more than %d values", maxCompared)
	}
	return f(a, b)
}

func contains(element, container ref.Val) ref.Val {
	c, ok := container.(traits.Container)
	if !ok {
		return types.MaybeNoSuchOverloadErr(container)
	}
	return c.Contains(element)
}

// spend takes the size of the tree v from budget: 1 for every value, and for
// every 64 bytes of text. It returns false as soon as the budget is exceeded,
// and does not look further.
func spend(v ref.Val, budget *int) bool {
	*budget--
	switch v := v.(type) {
	case types.String:
		*budget -= len(v) / 64
	case types.Bytes:
		*budget -= len(v) / 64
	case *types.Optional:
		return !v.HasValue() || spend(v.GetValue(), budget)
	case traits.Mapper:
		if sizeOfMap(v) > *budget {
			return false
		}
		for it := v.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			if !spend(key, budget) || !spend(v.Get(key), budget) {
				return false
			}
		}
	case traits.Lister:
		if sizeOf(v) > *budget {
			return false
		}
		for it := v.Iterator(); it.HasNext() == types.True; {
			if !spend(it.Next(), budget) {
				return false
			}
		}
	}
	return *budget >= 0
}

func sizeOfMap(m traits.Mapper) int {
	if n, ok := m.Size().(types.Int); ok {
		return int(n)
	}
	return 0
}

// pattern compiles the pattern of matches, which must stand in the rule itself:
// one from outside would be compiled for every webhook.
func pattern(arg interpreter.InterpretableV2) (*regexp.Regexp, error) {
	constant, ok := arg.(interpreter.InterpretableConst)
	if !ok {
		return nil, errors.New("the pattern of matches must be a text in quotes, not something computed")
	}
	text, ok := constant.Value().(types.String)
	if !ok {
		return nil, errors.New("the pattern of matches must be a text in quotes")
	}
	size, err := types.RegexProgramSize(string(text))
	if err != nil {
		return nil, fmt.Errorf("the pattern of matches is not a regular expression: %w", err)
	}
	if size > maxPattern {
		return nil, fmt.Errorf("the pattern of matches compiles to %d instructions, more than %d", size, maxPattern)
	}
	return regexp.Compile(string(text))
}

func match(re *regexp.Regexp, text ref.Val) ref.Val {
	s, ok := text.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(text)
	}
	if len(s) > maxMatched {
		return types.NewErr("the text that is matched is %d bytes long, more than %d", len(s), maxMatched)
	}
	return types.Bool(re.MatchString(string(s)))
}
