package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// KnownReason reports whether reason is that of one of the close codes that a node uses by
// itself.
func KnownReason(reason string) bool {
	switch reason {
	case CloseNormal.Reason, CloseShutdown.Reason, CloseInternal.Reason, CloseExpired.Reason, CloseSlow.Reason, CloseWriteError.Reason,
		CloseInsufficient.Reason, CloseNoPong.Reason, CloseInvalidToken.Reason, CloseBadRequest.Reason, CloseStale.Reason,
		CloseForced.Reason, CloseTooMany.Reason, CloseTooManySubs.Reason, CloseNotAvailable.Reason, CloseTooManyErrors.Reason:
		return true
	}
	return false
}

// maxReason is how many bytes a close frame leaves for its reason.
const maxReason = 123

// CustomClose returns the close code that somebody else has chosen: a code from
// 3000 to 4999, and a reason of at most 123 bytes that is not JSON, or the code
// and reason of [CloseForced] where they are 0 and empty.
func CustomClose(code int, reason string) (CloseCode, error) {
	c := CloseCode{Code: code, Reason: reason}
	if code == 0 {
		c.Code = CloseForced.Code
	}
	if reason == "" {
		c.Reason = CloseForced.Reason
	}
	switch {
	case c.Code < 3000 || c.Code > 4999:
		return CloseCode{}, fmt.Errorf("the close code %d is not from 3000 to 4999", code)
	case len(c.Reason) > maxReason:
		return CloseCode{}, fmt.Errorf("the reason is %d bytes long, more than %d", len(c.Reason), maxReason)
	case !utf8.ValidString(c.Reason):
		return CloseCode{}, errors.New("the reason is not valid UTF-8")
	case json.Valid([]byte(c.Reason)):
		return CloseCode{}, errors.New("the reason is JSON, which some clients take for something else: use plain words")
	}
	for _, r := range c.Reason {
		if unicode.IsControl(r) {
			return CloseCode{}, fmt.Errorf("the reason holds the control character %q", r)
		}
	}
	return c, nil
}
