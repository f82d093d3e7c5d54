package rule

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/interpreter"

	"pushcluster/shared/push"
)

// A Kind is the class of an [Error], for metrics.
type Kind string

// The kinds.
const (
	KindCompile Kind = "compile" // the rule itself is wrong
	KindMissing Kind = "missing" // a field that is not there
	KindType    Kind = "type"    // a value of another type than the expression needs
	KindCost    Kind = "cost"    // too many steps, or too large a result of one
	KindTime    Kind = "time"    // over 100 ms
	KindResult  Kind = "result"  // the result is nothing that can be sent
)

// quoted bounds, in bytes, what a reason repeats of an expression or a body.
const quoted = 60

// An Error is what is wrong with one field of a rule, or of a body under it.
type Error struct {
	Field  string // "when", "to.users", … as in sources.yaml
	Kind   Kind
	Reason string // for people; may quote names of fields and short values of the body
}

// Error returns the field and the reason.
func (e *Error) Error() string { return e.Field + ": " + e.Reason }

// compileReason explains one message of the compiler.
func compileReason(message string, line, column int, expression string) string {
	message = strings.TrimSuffix(message, " (in container '')")
	lesson := ""
	switch {
	case strings.Contains(message, "undeclared reference to"):
		lesson = "an expression knows body, headers, query, source and received_at"
		if !strings.ContainsAny(expression, "\"'(") {
			lesson += `; a plain text stands in quotes of its own, '"` + push.Clip(expression, quoted) + `"'`
		}
	case strings.Contains(message, "expression code point size exceeds limit"):
		return fmt.Sprintf("the expression is longer than %d characters", MaxExpression)
	}
	reason := fmt.Sprintf("%s (at %d:%d)", message, line, column+1)
	if lesson != "" {
		reason += "; " + lesson
	}
	return reason
}

// isIdentifier reports whether an expression can have key behind a dot.
func isIdentifier(key string) bool {
	for i, c := range []byte(key) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return key != ""
}

// evalError explains why an expression has no value.
func evalError(field string, err error) *Error {
	var cancelled interpreter.EvalCancelledError
	text := err.Error()
	switch {
	case errors.As(err, &cancelled) && cancelled.Cause == interpreter.CostLimitExceeded:
		return &Error{field, KindCost, fmt.Sprintf("it takes more than %d steps for this body; look at fewer elements, or make fewer texts", costLimit)}
	case errors.Is(err, interpreter.InterruptError{}):
		return &Error{field, KindTime, fmt.Sprintf("it takes longer than %s for this body", maxTime)}
	case strings.HasPrefix(text, "no such key: "):
		key := push.Clip(strings.TrimPrefix(text, "no such key: "), quoted)
		if !isIdentifier(key) { // a header, most of the time
			return &Error{field, KindMissing, fmt.Sprintf(`there is no %[1]q where the expression looks for it; `+
				`if it may be missing, ask %[1]q in … in when, or write …[?%[1]q].orValue("")`, key)}
		}
		return &Error{field, KindMissing, fmt.Sprintf(`the body has no %s where the expression looks for it; `+
			`if it may be missing, ask has(….%s) in when, or write ….?%s.orValue("")`, key, key, key)}
	case strings.HasPrefix(text, "index out of bounds"):
		return &Error{field, KindMissing, text + `; if a list may be shorter, write list[?0].orValue("")`}
	case strings.Contains(text, "no such overload"):
		return &Error{field, KindType, push.Clip(text, quoted) + "; the values are of other types than the operation takes: string(x), int(x) and double(x) convert, in a list .map(x, string(x))"}
	case strings.HasPrefix(text, "internal error: "):
		return &Error{field, KindType, "it cannot be evaluated for this body; is the key of a map no string, number or bool?"}
	case strings.Contains(text, "more than"):
		return &Error{field, KindCost, push.Clip(text, quoted)}
	}
	return &Error{field, KindType, push.Clip(text, quoted)}
}
