package node

import "pushcluster/shared/push"

// A clientError is an error reply of the client protocol. Clients try again
// after a temporary one and after 109 (with a new token), else they give up.
type clientError struct {
	code      uint32
	message   string
	temporary bool
}

func (e clientError) Error() string { return e.message }

// The error replies of this node, with the codes that SDKs know.
var (
	errInternal          = clientError{100, "internal server error", true}
	errPermissionDenied  = clientError{103, "permission denied", false}
	errMethodNotFound    = clientError{104, "method not found", false}
	errAlreadySubscribed = clientError{105, "already subscribed", false}
	errLimitExceeded     = clientError{106, "limit exceeded", false}
	errBadRequest        = clientError{107, "bad request", false}
	errNotAvailable      = clientError{108, "not available", false}
	errTokenExpired      = clientError{109, "token expired", false}
	errUnrecoverable     = clientError{112, "unrecoverable position", false}
)

// A closeError ends the connection instead of answering.
type closeError struct{ push.CloseCode }

func (e closeError) Error() string { return e.Reason }
