package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"pushcluster/pushctl/api"
	"pushcluster/pushctl/follow"
	"pushcluster/pushctl/show"
	"pushcluster/shared/push"
)

// A usageError is a command line that kong takes and we do not.
type usageError struct{ text string }

// Error returns what is wrong.
func (e *usageError) Error() string { return e.text }

func usage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// errTold means that something failed and was told already.
var errTold = errors.New("told already")

// tell writes what err says, and what to do about it, and returns the exit code.
func (s *session) tell(ctx context.Context, err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errTold):
		return exitFailed
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		s.note("pushctl: interrupted")
		return exitFailed
	}
	code := exitFailed
	if _, ok := errors.AsType[*usageError](err); ok {
		code = exitUsage
	}
	fault := describe(err)
	if s.out.JSON {
		text, _ := json.Marshal(fault) // holds texts alone
		s.note("%s", text)
		return code
	}
	s.note("pushctl: %s", fault.Error)
	if fault.Detail != "" {
		s.note("  %s", fault.Detail)
	}
	if fault.Hint != "" {
		s.note("  → %s", fault.Hint)
	}
	return code
}

// A fault is an error as it is told: with --json, on stderr.
type fault struct {
	Error  string    `json:"error"`
	Code   push.Code `json:"code,omitempty"`
	Status int       `json:"status,omitempty"`
	Detail string    `json:"detail,omitempty"`
	Hint   string    `json:"hint,omitempty"`
}

// describe returns what err says, taken apart.
func describe(err error) fault {
	f := fault{Error: show.Clean(err.Error())}
	if ended, ok := errors.AsType[*follow.Ended](err); ok {
		f.Hint = closeHint(int(ended.Code))
		return f
	}
	if _, ok := errors.AsType[*follow.Unreached](err); ok {
		f.Hint = "is a push node there, and ready? NODE_URL or --node says where it is"
		return f
	}
	if refused, ok := errors.AsType[*follow.Refused](err); ok {
		f.Hint = refusedHint(refused)
		return f
	}
	e, ok := errors.AsType[*api.Error](err)
	if p, isProblem := errors.AsType[*push.Problem](err); !ok && isProblem { // it came in the middle of an answer
		return fault{Error: "Collect had to stop: " + p.Title + " (" + string(p.Code) + ")", Code: p.Code, Status: p.Status, Detail: p.Detail, Hint: hints[p.Code]}
	}
	if !ok {
		return f
	}
	f.Status, f.Hint = e.Status, hint(e)
	if e.Problem != nil {
		f.Code, f.Detail = e.Problem.Code, e.Problem.Detail
	}
	return f
}

// hints say what to do about a problem, where its detail does not.
var hints = map[push.Code]string{
	push.CodeUnauthorized:    "give the API key in PUSHCLUSTER_KEY, or where it is: PUSHCLUSTER_KEY=file:PATH",
	push.CodeIDReused:        "use another --id, or send what was sent the first time",
	push.CodeDataTooLarge:    "send a link to it instead",
	push.CodeTooManyRequests: "wait a moment, then repeat",
	push.CodeUnavailable:     "nothing was promised: repeat it; pushctl status tells what is away",
	push.CodeInternal:        "repeat it; the service's log says more",
}

// hint says what to do about a request that failed, "" where nothing is known.
func hint(e *api.Error) string {
	variable, flag := "PUSHCLUSTER_URL", "--url"
	if e.Service == "Auth" {
		variable, flag = "AUTH_URL", "--auth"
	}
	switch {
	case errors.Is(e.Err, api.ErrUnconfigured):
		return fmt.Sprintf("set %s or give %s; beside make run, which writes .local/stack.json, neither is needed", variable, flag)
	case e.Problem != nil:
		if e.Problem.Code == push.CodeNotFound && e.Service == "Auth" {
			return "is this Auth? AUTH_URL or --auth says where it is"
		}
		if e.Retry > 0 {
			return fmt.Sprintf("nothing was promised: repeat it in %s", e.Retry)
		}
		return hints[e.Problem.Code]
	case e.Status != 0:
		return fmt.Sprintf("is %s right? %s or %s says where %s is", e.URL, variable, flag, e.Service)
	}
	return fmt.Sprintf("is it running? %s or %s says where it is", variable, flag)
}

// tokenExpired is the client protocol's error code of a token that was good once.
const tokenExpired = 109

// refusedHint says what to do about a connect that was refused.
func refusedHint(e *follow.Refused) string {
	switch {
	case e.Code == tokenExpired:
		return "get a new token with pushctl token"
	case e.Temporary:
		return "repeat it in a moment; pushctl status tells what is away"
	}
	return ""
}

// closeHint says what to do about a connection that was closed for good.
func closeHint(code int) string {
	switch code {
	case push.CloseInvalidToken.Code:
		return "the token does not count, or was revoked: get a new one with pushctl token"
	case push.CloseForced.Code:
		return "somebody kicked the user; the token still counts: start again"
	}
	return ""
}
