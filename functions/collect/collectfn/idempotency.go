package collectfn

import (
	"errors"
	"fmt"
	"strings"
)

// parseIdempotencyKey reads the values of the header Idempotency-Key: "" if it
// is absent, else one RFC 8941 string in quotes, as the IETF draft asks, or a
// bare token, as most senders write it: visible ASCII without quotes, commas,
// semicolons and backslashes. The key has 1 to 255 bytes.
func parseIdempotencyKey(values []string) (string, error) {
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", errors.New("Idempotency-Key occurs more than once")
	}
	text := strings.Trim(values[0], " \t")
	key, err := text, error(nil)
	if strings.HasPrefix(text, `"`) {
		key, err = unquote(text)
	} else {
		err = checkToken(text)
	}
	if err != nil {
		return "", fmt.Errorf("Idempotency-Key %w", err)
	}
	if key == "" {
		return "", errors.New("Idempotency-Key is empty")
	}
	if len(key) > maxID {
		return "", fmt.Errorf("Idempotency-Key is %d bytes long, more than %d", len(key), maxID)
	}
	return key, nil
}

func checkToken(text string) error {
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' || strings.IndexByte(`",;\`, c) >= 0 {
			return fmt.Errorf("holds %q; put it in quotes, in ASCII", rune(c))
		}
	}
	return nil
}

// unquote reads a string of RFC 8941, which text must be as a whole.
func unquote(text string) (string, error) {
	var key strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"' && i == len(text)-1:
			return key.String(), nil
		case c == '"':
			return "", errors.New("has something after its closing quote")
		case c == '\\':
			i++
			if i == len(text) || (text[i] != '"' && text[i] != '\\') {
				return "", errors.New(`has a backslash that escapes neither " nor \`)
			}
			key.WriteByte(text[i])
		case c < ' ' || c > '~':
			return "", errors.New("holds a character outside printable ASCII")
		default:
			key.WriteByte(c)
		}
	}
	return "", errors.New("has no closing quote")
}
