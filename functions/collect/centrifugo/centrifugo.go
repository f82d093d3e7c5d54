// Package centrifugo reads and writes the server API of Centrifugo, so that the
// libraries that were written for it publish here. It knows the form alone:
// commands as they come in, replies and errors as they go out. What a command
// does is collectfn's.
//
// A command comes in one of three forms:
//
//	POST /api/publish  {"channel":"#42","data":{}}                          → {"result":{}}
//	POST /api/batch    {"commands":[{"publish":{…}},{"broadcast":{…}}]}     → {"replies":[{"publish":{}},…]}
//	POST /api          {"method":"publish","params":{…}}, one on each line  → {"result":{}}, one on each line
//
// In place of a result there may be an error: {"error":{"code":107,"message":"bad request"}}.
package centrifugo

import (
	"fmt"

	"pushcluster/shared/push"
)

// An Error is an error of the API. It is answered in place of a result, with
// status 200 unless the whole request cannot be understood.
type Error struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	// Malformed says that the command is no JSON that is due: by itself it is
	// answered with status 400.
	Malformed bool `json:"-"`
}

// Error returns the message and the code.
func (e *Error) Error() string { return fmt.Sprintf("%s: %d", e.Message, e.Code) }

// The codes of errors, as Centrifugo has published them. Libraries compare the
// code; the message begins with Centrifugo's and goes on with what is wrong here.
const (
	CodeInternal        = 100
	CodeUnauthorized    = 101
	CodeMethodNotFound  = 104
	CodeLimitExceeded   = 106
	CodeBadRequest      = 107
	CodeNotAvailable    = 108
	CodeTooManyRequests = 111
)

var messages = map[int]string{
	CodeInternal:        "internal server error",
	CodeUnauthorized:    "unauthorized",
	CodeMethodNotFound:  "method not found",
	CodeLimitExceeded:   "limit exceeded",
	CodeBadRequest:      "bad request",
	CodeNotAvailable:    "not available",
	CodeTooManyRequests: "too many requests",
}

// NewError returns the error of code with a detail for people, which may be
// empty (format as in fmt.Sprintf). It holds no secret.
func NewError(code int, format string, args ...any) *Error {
	message := messages[code]
	if detail := fmt.Sprintf(format, args...); detail != "" {
		message += ": " + detail
	}
	return &Error{Code: code, Message: message}
}

// OfProblem returns the error that says what p says.
func OfProblem(p *push.Problem) *Error {
	switch p.Code {
	case push.CodeUnauthorized:
		return NewError(CodeUnauthorized, "%s", p.Detail)
	case push.CodeDataTooLarge, push.CodeBodyTooLarge:
		return NewError(CodeLimitExceeded, "%s", p.Detail)
	case push.CodeTooManyRequests:
		return NewError(CodeTooManyRequests, "%s", p.Detail)
	case push.CodeInternal, push.CodeUnavailable:
		return NewError(CodeInternal, "%s", p.Detail)
	}
	return NewError(CodeBadRequest, "%s", p.Detail)
}
