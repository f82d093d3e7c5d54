package signature

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"pushcluster/shared/push"
)

// maxDeliveryID is the length in bytes beyond which a sender's id is replaced
// by its hash: a message's id has room for it beside the names of source and
// rule.
const maxDeliveryID = 200

// DeliveryID returns the sender's name for a delivery with these headers and
// this raw body. value is the body decoded from JSON, nil if it is none. Where
// the sender gives no name it is "sha256-" and the hash of the body, and where
// the name cannot be part of an id, of the name. Where half a character was lost
// with decoding the name, so that it may be another delivery's, it is the hash of
// the body as well. It has 1 to 200 bytes of UTF-8 without control characters.
//
// The id tells repeats apart, and proves nothing that [Scheme.Proves] does not
// say.
func (r *Receiver) DeliveryID(h http.Header, body []byte, value any) string {
	kind, where, _ := strings.Cut(r.scheme.ID, ":")
	id := ""
	switch kind {
	case "header":
		id = h.Get(where)
	case "body":
		id = lookUp(value, strings.Split(where, "."))
	}
	switch {
	case id == "", kind == "body" && push.Halved(body, id):
		return hashed(body)
	case len(id) > maxDeliveryID || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl):
		return hashed([]byte(id))
	}
	return id
}

// lookUp returns the string or number at path, "" if there is none.
func lookUp(value any, path []string) string {
	for _, field := range path {
		object, ok := value.(map[string]any)
		if !ok {
			return ""
		}
		value = object[field]
	}
	switch v := value.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

func hashed(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256-" + hex.EncodeToString(sum[:])
}
