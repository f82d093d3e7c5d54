package secret

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
)

// maxKeyName is the length limit of an API key's name, in bytes.
const maxKeyName = 64

// Keys are the API keys that a service accepts, each under a name. One name may
// have several keys, so that a key can be replaced without a gap. Only hashes
// are kept. The zero Keys accepts nothing.
type Keys struct {
	keys []key
}

type key struct {
	name string
	hash [sha256.Size]byte
}

// ParseKeys reads "name:secret" pairs separated by commas or newlines. A name
// is 1 to 64 of A-Z a-z 0-9 _ . - and becomes part of the ids of what its
// holder sends; a secret holds no space and no comma. The same name may occur
// again with another secret; the same secret under two names is refused. Errors
// tell the name or the place in the list, never a secret.
func ParseKeys(text string) (Keys, error) {
	var k Keys
	for i, pair := range split(text) {
		name, value, ok := strings.Cut(pair, ":")
		if !ok {
			return Keys{}, fmt.Errorf("key %d is not of the form name:secret", i+1)
		}
		if err := checkKeyName(name); err != nil {
			return Keys{}, fmt.Errorf("key %d: %w", i+1, err)
		}
		if value == "" {
			return Keys{}, fmt.Errorf("key %d (%s) has no secret after the colon", i+1, name)
		}
		if strings.ContainsAny(value, " \t") {
			return Keys{}, fmt.Errorf("key %d (%s) has space in its secret", i+1, name)
		}
		added := key{name: name, hash: sha256.Sum256([]byte(value))}
		for _, old := range k.keys {
			if old.hash == added.hash && old.name != name {
				return Keys{}, fmt.Errorf("keys %q and %q have the same secret", old.name, name)
			}
		}
		k.keys = append(k.keys, added)
	}
	return k, nil
}

// checkKeyName does not tell the name: who forgets it has written the secret in
// its place.
func checkKeyName(name string) error {
	if name == "" {
		return errors.New("its name, before the colon, is empty")
	}
	if len(name) > maxKeyName {
		return fmt.Errorf("its name, before the colon, is longer than %d characters", maxKeyName)
	}
	for _, r := range []byte(name) {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '.', r == '-':
		default:
			return errors.New("its name, before the colon, holds a character outside A-Z a-z 0-9 _ . -")
		}
	}
	return nil
}

// UnmarshalText reads keys as [ParseKeys] does.
func (k *Keys) UnmarshalText(text []byte) (err error) {
	*k, err = ParseKeys(string(text))
	return err
}

// Len returns how many keys there are.
func (k Keys) Len() int { return len(k.keys) }

// Has reports whether there is a key of that name.
func (k Keys) Has(name string) bool {
	return slices.ContainsFunc(k.keys, func(key key) bool { return key.name == name })
}

// Name returns the name of the key whose secret was presented. It takes the
// same time whichever key it is and whatever is presented.
func (k Keys) Name(presented string) (name string, ok bool) {
	hash := sha256.Sum256([]byte(presented))
	found := -1
	for i := range k.keys {
		same := subtle.ConstantTimeCompare(hash[:], k.keys[i].hash[:])
		found = subtle.ConstantTimeSelect(same, i, found)
	}
	if found < 0 {
		return "", false
	}
	return k.keys[found].name, true
}

// Holder returns the name of the key that a request carries in X-API-Key or,
// where that is absent, in Authorization: Bearer.
func (k Keys) Holder(h http.Header) (name string, ok bool) {
	presented := h.Get("X-API-Key")
	if presented == "" {
		scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", false
		}
		presented = strings.TrimSpace(token)
	}
	if presented == "" {
		return "", false
	}
	return k.Name(presented)
}

// String tells how many keys there are.
func (k Keys) String() string { return fmt.Sprintf("[%d keys]", len(k.keys)) }

// GoString is String.
func (k Keys) GoString() string { return k.String() }

// LogValue is String.
func (k Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }
