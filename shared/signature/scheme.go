package signature

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// An Algorithm is how a sender proves that a webhook is its own.
type Algorithm string

// The algorithms. With all but [SharedToken] and [BasicAuth] the body is signed.
const (
	HMACSHA1    Algorithm = "hmac-sha1"
	HMACSHA256  Algorithm = "hmac-sha256"
	HMACSHA512  Algorithm = "hmac-sha512"
	Ed25519     Algorithm = "ed25519"
	ECDSASHA256 Algorithm = "ecdsa-sha256" // ASN.1 signatures
	SharedToken Algorithm = "token"        // the secret itself is the header's value
	BasicAuth   Algorithm = "basic"        // the secret is USER:PASSWORD
)

// Algorithms returns every algorithm, for documentation and schemas.
func Algorithms() []Algorithm {
	return []Algorithm{HMACSHA1, HMACSHA256, HMACSHA512, Ed25519, ECDSASHA256, SharedToken, BasicAuth}
}

// An Encoding is how a signature is written in its header.
type Encoding string

// The encodings. Base64 is the standard alphabet, padded or not.
const (
	Hex    Encoding = "hex"
	Base64 Encoding = "base64"
)

// A Scheme is how one kind of sender signs its webhooks. [Preset] has the
// well-known ones. Of a scheme with [SharedToken] only Header, Prefix and ID
// count, of one with [BasicAuth] only ID.
type Scheme struct {
	// Header carries the signature. If Separator is not empty it is cut there,
	// and every part that begins with Prefix is a signature; one that matches is
	// enough. Else the header is Prefix and one signature.
	Header    string
	Prefix    string
	Separator string

	Algorithm Algorithm
	Encoding  Encoding

	// Timestamp says where the time of signing is: a header's name, or, if it
	// ends in '=', what that part of Header begins with. It is read as seconds
	// since 1970, milliseconds from 100,000,000,000 on, or RFC 3339. Empty: the
	// sender signs no time, and an old webhook cannot be told from a new one.
	Timestamp string
	// Tolerance is how far Timestamp may lie from now, either way; 0 means 5
	// minutes.
	Tolerance time.Duration

	// Template is what is signed, with {id}, {timestamp} and {body} standing for
	// themselves as they came. {body} must be in it, and {timestamp} if there is
	// a Timestamp: what is not signed proves nothing.
	Template string

	// ID says where the sender's name of a delivery is: "header:NAME", or
	// "body:PATH" with the path of a string or number in a JSON body, its fields
	// separated by dots. Empty, or where a delivery has none: the SHA-256 of the
	// body stands in, and two equal bodies are one delivery.
	ID string

	// standard is set on schemes whose secrets are written as Standard Webhooks
	// does: whsec_ and whpk_, each with a prefix of its own for the signature.
	standard bool
	// slack is set where the sender asks a challenge in the body.
	slack bool
	// bodyToken is set where the signature is a JSON Web Token with the body's
	// hash in it. Of such a scheme only Header, Tolerance and ID count.
	bodyToken bool
}

// The default template: the body alone.
const bodyAlone = "{body}"

// maxTolerance bounds the replay window: message ids are remembered for days,
// and a window beyond a day is a mistake of units.
const maxTolerance = 24 * time.Hour

// A SchemeError says which field of a scheme is wrong, by its name in sources.yaml.
type SchemeError struct {
	Field  string
	Reason string
}

// Error returns the field and the reason.
func (e *SchemeError) Error() string { return e.Field + ": " + e.Reason }

// WithDefaults returns s with what it leaves open: HMAC-SHA-256 in hexadecimal
// over the body, 5 minutes.
func (s Scheme) WithDefaults() Scheme {
	if s.Algorithm == "" {
		s.Algorithm = HMACSHA256
	}
	if s.Encoding == "" {
		s.Encoding = Hex
	}
	if s.Template == "" {
		s.Template = bodyAlone
	}
	if s.Tolerance == 0 {
		s.Tolerance = DefaultTolerance
	}
	if s.Algorithm == BasicAuth {
		s.Header = "Authorization"
	}
	return s
}

// Check returns what is wrong with s, after [Scheme.WithDefaults], as
// [*SchemeError]s joined.
func (s Scheme) Check() error {
	s = s.WithDefaults()
	var errs []error
	wrong := func(field, format string, args ...any) {
		errs = append(errs, &SchemeError{field, fmt.Sprintf(format, args...)})
	}
	if !slices.Contains(Algorithms(), s.Algorithm) {
		wrong("algorithm", "%q is none of %s", s.Algorithm, list(Algorithms()))
	}
	if s.Encoding != Hex && s.Encoding != Base64 {
		wrong("encoding", "%q is neither hex nor base64", s.Encoding)
	}
	if !validHeader(s.Header) {
		wrong("header", "%q is not the name of a header", s.Header)
	}
	if s.Tolerance < 0 || s.Tolerance > maxTolerance {
		wrong("tolerance", "must be from 1s to %s", maxTolerance)
	}
	if kind, where, _ := strings.Cut(s.ID, ":"); s.ID != "" {
		switch {
		case kind == "header" && validHeader(where):
		case kind == "body" && where != "" && !slices.Contains(strings.Split(where, "."), ""):
		default:
			wrong("id", `%q is neither "header:NAME" nor "body:FIELD.FIELD"`, s.ID)
		}
	}
	if !s.covers() {
		return errors.Join(errs...)
	}
	for _, err := range s.checkSigned() {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkSigned returns what is wrong with what is signed.
func (s Scheme) checkSigned() []*SchemeError {
	var errs []*SchemeError
	wrong := func(field, format string, args ...any) {
		errs = append(errs, &SchemeError{field, fmt.Sprintf(format, args...)})
	}
	parts, err := parseTemplate(s.Template)
	if err != nil {
		wrong("template", "%v", err)
		return errs
	}
	has := func(name string) bool { return slices.Contains(parts, templatePart{name: name}) }
	if !has("body") {
		wrong("template", "{body} is not in it, so the body would prove nothing")
	}
	switch part, inHeader := strings.CutSuffix(s.Timestamp, "="); {
	case s.Timestamp == "" && has("timestamp"):
		wrong("timestamp", "the template has {timestamp}, so say where it comes from")
	case s.Timestamp == "":
	case !has("timestamp"):
		wrong("template", "{timestamp} is not in it, so the time would prove nothing")
	case inHeader && (part == "" || s.Separator == ""):
		wrong("timestamp", "%q is a part of the header, so there must be a separator", s.Timestamp)
	case !inHeader && !validHeader(s.Timestamp):
		wrong("timestamp", `%q is neither the name of a header nor a part like "t="`, s.Timestamp)
	}
	if has("id") && !strings.HasPrefix(s.ID, "header:") {
		wrong("id", `the template has {id}, so it must be "header:NAME"`)
	}
	return errs
}

// covers reports whether the body is signed.
func (s Scheme) covers() bool { return s.Algorithm != SharedToken && s.Algorithm != BasicAuth }

// A Proof is what a verified webhook of a scheme has proved; what it has not
// proved, whoever saw one webhook may have changed.
type Proof struct {
	Body bool // it is as the sender wrote it
	Time bool // it was signed within the tolerance
	ID   bool // the delivery's id is the sender's: repeats are found out for good
}

// Proves returns what webhooks of s prove.
func (s Scheme) Proves() Proof {
	s = s.WithDefaults()
	if !s.covers() {
		return Proof{}
	}
	return Proof{
		Body: true,
		Time: s.Timestamp != "", // a token may leave it out
		ID:   !strings.HasPrefix(s.ID, "header:") || strings.Contains(s.Template, "{id}"),
	}
}

// A templatePart is a literal text, or the name of what stands there.
type templatePart struct {
	literal string
	name    string
}

func parseTemplate(text string) ([]templatePart, error) {
	var parts []templatePart
	for text != "" {
		literal, rest, found := strings.Cut(text, "{")
		if literal != "" {
			parts = append(parts, templatePart{literal: literal})
		}
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		switch {
		case !closed:
			return nil, errors.New("a { has no }")
		case name != "id" && name != "timestamp" && name != "body":
			return nil, fmt.Errorf("{%s} is none of {id}, {timestamp}, {body}", name)
		case slices.Contains(parts, templatePart{name: name}):
			return nil, fmt.Errorf("{%s} occurs twice", name)
		}
		parts = append(parts, templatePart{name: name})
		text = after
	}
	return parts, nil
}

// validHeader reports whether name can be a header's.
func validHeader(name string) bool {
	if name == "" || len(name) > 128 {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

func list[T ~string](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	return strings.Join(texts, ", ")
}
