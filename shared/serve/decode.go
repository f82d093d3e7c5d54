package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"pushcluster/shared/push"
)

// readAtOnce bounds, in bytes, the memory that is made for a body because its
// sender says that it will be so long.
const readAtOnce = 64 << 10

// told bounds, in bytes, what a problem repeats of a body.
const told = 120

// WholeBody returns a body that is b, which [Body] then returns without a copy.
func WholeBody(b []byte) io.ReadCloser { return &wholeBody{unread: b} }

// Body reads the whole body of r, at most limit bytes; a longer one is
// [push.CodeBodyTooLarge]. It reads no more than limit+1 bytes of any body.
func Body(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *push.Problem) {
	if r.ContentLength > limit {
		// The rest of the body is not worth reading, so the connection goes with it.
		w.Header().Set("Connection", "close")
		return nil, tooLarge(limit)
	}
	if whole, ok := r.Body.(*wholeBody); ok && int64(len(whole.unread)) <= limit {
		return whole.rest(), nil
	}
	if n := r.ContentLength; n >= 0 && n <= readAtOnce {
		body := make([]byte, n)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, endedEarly()
		}
		return body, nil
	}
	var read bytes.Buffer
	read.Grow(int(min(max(r.ContentLength, 0), readAtOnce)) + bytes.MinRead)
	_, err := read.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	var over *http.MaxBytesError
	if errors.As(err, &over) {
		return nil, tooLarge(limit)
	}
	if err != nil {
		return nil, endedEarly()
	}
	return read.Bytes(), nil
}

func endedEarly() *push.Problem {
	return push.NewProblem(push.CodeBadRequest, "the body ended early or came too slowly")
}

func tooLarge(limit int64) *push.Problem {
	return push.NewProblem(push.CodeBodyTooLarge, "the body is over its limit of %d bytes", limit)
}

// Decode reads the body of r, at most limit bytes, into v: see [DecodeBytes].
func Decode(w http.ResponseWriter, r *http.Request, limit int64, v any) *push.Problem {
	body, p := Body(w, r, limit)
	if p != nil {
		return p
	}
	return DecodeBytes(body, v)
}

// DecodeBytes decodes body, which must be exactly one JSON value in valid
// UTF-8, into v, a pointer. A field that v does not have, or writes with other
// capitals, is [push.CodeUnknownField] and is named in the detail; everything else
// that is wrong is [push.CodeBadJSON], with the line and column where it is. Of a
// field that occurs twice the last one counts. After a problem, what v holds is not
// defined.
func DecodeBytes(body []byte, v any) *push.Problem {
	if !utf8.Valid(body) {
		return push.NewProblem(push.CodeBadJSON, "the body is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return decodeProblem(err, body, dec.InputOffset())
	}
	end := dec.InputOffset()
	if rest := bytes.TrimLeft(body[end:], " \t\r\n"); len(rest) > 0 {
		return push.NewProblem(push.CodeBadJSON, "something follows the JSON value at %s",
			position(body, int64(len(body)-len(rest))))
	}
	if name := misspelled(body, reflect.TypeOf(v).Elem()); name != "" {
		return noField(strconv.Quote(name))
	}
	return nil
}

// noField is the problem of a field that does not exist, whose name is quoted.
func noField(name string) *push.Problem {
	return push.NewProblem(push.CodeUnknownField, "there is no field %s", push.Clip(name, told))
}

func decodeProblem(err error, body []byte, at int64) *push.Problem {
	var (
		syntax *json.SyntaxError
		typed  *json.UnmarshalTypeError
	)
	switch {
	case errors.Is(err, io.EOF):
		return push.NewProblem(push.CodeBadJSON, "the body is empty")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return push.NewProblem(push.CodeBadJSON, "the JSON ends too early, at %s", position(body, int64(len(body))))
	case errors.As(err, &syntax):
		// Offset counts the bytes read, the offending one included.
		return push.NewProblem(push.CodeBadJSON, "not JSON at %s: %s",
			position(body, syntax.Offset-1), strings.TrimPrefix(syntax.Error(), "json: "))
	case errors.As(err, &typed):
		what := "the value"
		if typed.Field != "" {
			what = fmt.Sprintf("field %q", push.Clip(typed.Field, told))
		}
		return push.NewProblem(push.CodeBadJSON, "%s must be %s, not %s (at %s)",
			what, jsonKind(typed.Type), push.Clip(typed.Value, told), position(body, typed.Offset))
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return noField(name)
	}
	return push.NewProblem(push.CodeBadJSON, "%s (near %s)", push.Clip(strings.TrimPrefix(err.Error(), "json: "), told), position(body, at))
}

// position tells where byte at of body is, counted as an editor does.
func position(body []byte, at int64) string {
	at = max(0, min(at, int64(len(body))))
	before := body[:at]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return fmt.Sprintf("line %d, column %d", line, column)
}

// jsonKind says in JSON's words what a Go type is decoded from.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Pointer:
		return jsonKind(t.Elem())
	default:
		return "a number in range"
	}
}
