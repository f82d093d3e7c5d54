package target

import (
	"bytes"
	"fmt"
)

// noProblem returns an error if one of the messages in an answer of Collect or
// Dispatch was not taken.
func noProblem(body []byte) error {
	for _, mark := range []string{`"problem":{`, `"status":`} {
		if i := bytes.Index(body, []byte(mark)); i >= 0 {
			return fmt.Errorf("not taken: %.300s", body[i:])
		}
	}
	return nil
}
