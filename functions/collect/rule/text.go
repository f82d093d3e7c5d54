package rule

import (
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// The text functions have the names and meaning of CEL's strings extension.
// They are our own because that one makes its result first and counts it
// afterwards: "a".replace("", body.text) of two megabytes makes a terabyte.

// Limits of text functions.
const (
	maxText  = 256 << 10 // bytes of a result
	maxParts = 10_000    // of a split or a join
)

// isText reports whether function is one of this file, for its price.
func isText(function string) bool {
	switch function {
	case "join", "split", "replace", "substring", "indexOf", "lowerAscii", "upperAscii", "trim":
		return true
	}
	return false
}

func textFunctions() []cel.EnvOption {
	text, number, texts := cel.StringType, cel.IntType, cel.ListType(cel.StringType)
	member := func(name, overload string, result *cel.Type, impl func(args ...ref.Val) ref.Val, args ...*cel.Type) cel.EnvOption {
		return cel.Function(name, cel.MemberOverload(overload, args, result, cel.FunctionBinding(impl)))
	}
	onText := func(f func(string) string) func(args ...ref.Val) ref.Val {
		return func(args ...ref.Val) ref.Val { return types.String(f(string(args[0].(types.String)))) }
	}
	return []cel.EnvOption{
		member("join", "list_join", text, join, texts),
		member("join", "list_join_string", text, join, texts, text),
		member("split", "string_split_string", texts, split, text, text),
		member("replace", "string_replace_string_string", text, replace, text, text, text),
		member("substring", "string_substring_int", text, substring, text, number),
		member("substring", "string_substring_int_int", text, substring, text, number, number),
		member("indexOf", "string_index_of_string", number, indexOf, text, text),
		member("lowerAscii", "string_lower_ascii", text, onText(lowerASCII), text),
		member("upperAscii", "string_upper_ascii", text, onText(upperASCII), text),
		member("trim", "string_trim", text, onText(strings.TrimSpace), text),
	}
}

func join(args ...ref.Val) ref.Val {
	list, separator := args[0].(traits.Lister), ""
	if len(args) == 2 {
		separator = string(args[1].(types.String))
	}
	if n := sizeOf(list); n > maxParts {
		return types.NewErr("join of %d texts, more than %d", n, maxParts)
	}
	var sb strings.Builder
	for it, first := list.Iterator(), true; it.HasNext() == types.True; first = false {
		part, ok := it.Next().(types.String)
		if !ok {
			return types.NewErr("join needs a list of strings; write .map(x, string(x)) before it")
		}
		if sb.Len()+len(separator)+len(part) > maxText {
			return tooLong("join")
		}
		if !first {
			sb.WriteString(separator)
		}
		sb.WriteString(string(part))
	}
	return types.String(sb.String())
}

func split(args ...ref.Val) ref.Val {
	parts := strings.SplitN(string(args[0].(types.String)), string(args[1].(types.String)), maxParts+1)
	if len(parts) > maxParts {
		return types.NewErr("split makes more than %d parts", maxParts)
	}
	return types.NewStringList(types.DefaultTypeAdapter, parts)
}

func replace(args ...ref.Val) ref.Val {
	s, old, by := string(args[0].(types.String)), string(args[1].(types.String)), string(args[2].(types.String))
	if n := strings.Count(s, old); n > 0 && len(by) > len(old) && n > (maxText-len(s))/(len(by)-len(old)) {
		return tooLong("replace")
	}
	return types.String(strings.ReplaceAll(s, old, by))
}

// substring counts characters. Neither end may lie outside of the text.
func substring(args ...ref.Val) ref.Val {
	s := string(args[0].(types.String))
	from, to := place(s, int64(args[1].(types.Int))), len(s)
	if len(args) == 3 {
		to = place(s, int64(args[2].(types.Int)))
	}
	if from < 0 || to < from {
		return types.NewErr("substring outside of a text of %d characters", utf8.RuneCountInString(s))
	}
	return types.String(s[from:to])
}

// place returns where the character n of s begins, -1 if it has not so many.
func place(s string, n int64) int {
	if n < 0 {
		return -1
	}
	for at := range s {
		if n == 0 {
			return at
		}
		n--
	}
	if n == 0 {
		return len(s)
	}
	return -1
}

// indexOf returns how many characters stand before the first occurrence, -1 if
// there is none.
func indexOf(args ...ref.Val) ref.Val {
	s := string(args[0].(types.String))
	at := strings.Index(s, string(args[1].(types.String)))
	if at < 0 {
		return types.Int(-1)
	}
	return types.Int(utf8.RuneCountInString(s[:at]))
}

func lowerASCII(s string) string { return mapASCII(s, 'A', 'Z') }
func upperASCII(s string) string { return mapASCII(s, 'a', 'z') }

// mapASCII changes the case of the letters from first to last.
func mapASCII(s string, first, last byte) string {
	b := []byte(s)
	for i, c := range b {
		if c >= first && c <= last {
			b[i] = c ^ 0x20
		}
	}
	return string(b)
}

func tooLong(function string) ref.Val {
	return types.NewErr("%s makes more than %d bytes", function, maxText)
}
