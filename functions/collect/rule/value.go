package rule

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"pushcluster/shared/push"
)

// maxDepth is how many arrays and objects of data may be open at once.
const maxDepth = 100

// errTooLarge means that a result has more bytes than a message may.
var errTooLarge = fmt.Errorf("it makes more than %d bytes of JSON", push.MaxData)

// toJSON returns v as JSON of at most push.MaxData bytes. Integers keep all
// their digits, and so does every number that is passed on from the body as it
// came. Bytes become base64, a time RFC 3339, a duration "1.5s", an optional
// without a value null. The fields of an object are sorted.
func toJSON(v ref.Val) (json.RawMessage, error) {
	w := writer{}
	if err := w.value(v, 0); err != nil {
		return nil, err
	}
	return w.buf, nil
}

// A writer writes JSON within the bounds of a message. It checks them before it
// walks into anything: a list may claim more elements than there is memory.
type writer struct{ buf []byte }

// room returns an error if n more bytes would be too many.
func (w *writer) room(n int) error {
	if n > push.MaxData-len(w.buf) {
		return errTooLarge
	}
	return nil
}

func (w *writer) text(s string) error {
	if err := w.room(len(s)); err != nil {
		return err
	}
	w.buf = append(w.buf, s...)
	return nil
}

func (w *writer) value(v ref.Val, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("it nests deeper than %d levels", maxDepth)
	}
	switch v := v.(type) {
	case types.Null:
		return w.text("null")
	case types.Bool:
		return w.text(strconv.FormatBool(bool(v)))
	case types.Int:
		return w.text(strconv.FormatInt(int64(v), 10))
	case types.Uint:
		return w.text(strconv.FormatUint(uint64(v), 10))
	case types.Double:
		return w.double(float64(v))
	case types.String:
		return w.string(string(v))
	case types.Bytes:
		if err := w.room(base64.StdEncoding.EncodedLen(len(v))); err != nil {
			return err
		}
		return w.string(base64.StdEncoding.EncodeToString(v))
	case types.Timestamp:
		return w.string(v.UTC().Format(time.RFC3339Nano))
	case types.Duration:
		return w.string(strconv.FormatFloat(v.Seconds(), 'f', -1, 64) + "s")
	case *types.Optional:
		if !v.HasValue() {
			return w.text("null")
		}
		return w.value(v.GetValue(), depth+1)
	case traits.Mapper:
		return w.object(v, depth)
	case traits.Lister:
		return w.array(v, depth)
	}
	return fmt.Errorf("a %s cannot be sent as JSON", v.Type().TypeName())
}

func (w *writer) array(list traits.Lister, depth int) error {
	if err := w.room(2 * sizeOf(list)); err != nil { // an element has at least a digit and a comma
		return err
	}
	w.buf = append(w.buf, '[')
	for it, first := list.Iterator(), true; it.HasNext() == types.True; first = false {
		if !first {
			w.buf = append(w.buf, ',')
		}
		if err := w.value(it.Next(), depth+1); err != nil {
			return err
		}
	}
	return w.text("]")
}

func (w *writer) object(m traits.Mapper, depth int) error {
	if err := w.room(5 * sizeOfMap(m)); err != nil { // "":0, is the least
		return err
	}
	if native, ok := m.Value().(map[string]any); ok {
		return w.nativeObject(native, depth)
	}
	fields := make(map[string]ref.Val, sizeOfMap(m))
	for it := m.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		name, err := fieldName(key)
		if err != nil {
			return err
		}
		if _, twice := fields[name]; twice {
			return fmt.Errorf("two keys of a map would both be the field %q", push.Clip(name, quoted))
		}
		fields[name] = m.Get(key)
	}
	return writeObject(w, fields, func(v ref.Val) error { return w.value(v, depth+1) })
}

// fieldName returns the name that a key of a map has in JSON.
func fieldName(key ref.Val) (string, error) {
	switch k := key.(type) {
	case types.String:
		return string(k), nil
	case types.Int:
		return strconv.FormatInt(int64(k), 10), nil
	case types.Uint:
		return strconv.FormatUint(uint64(k), 10), nil
	case types.Bool:
		return strconv.FormatBool(bool(k)), nil
	}
	return "", fmt.Errorf("a %s cannot be the name of a field", key.Type().TypeName())
}

func writeObject[V any](w *writer, fields map[string]V, value func(V) error) error {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	w.buf = append(w.buf, '{')
	for i, name := range names {
		if i > 0 {
			w.buf = append(w.buf, ',')
		}
		if err := w.string(name); err != nil {
			return err
		}
		w.buf = append(w.buf, ':')
		if err := value(fields[name]); err != nil {
			return err
		}
	}
	return w.text("}")
}

// nativeObject writes a part of the body as it was decoded, past CEL: numbers
// keep their spelling.
func (w *writer) nativeObject(fields map[string]any, depth int) error {
	return writeObject(w, fields, func(v any) error { return w.native(v, depth+1) })
}

func (w *writer) native(v any, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("it nests deeper than %d levels", maxDepth)
	}
	switch v := v.(type) {
	case json.Number:
		return w.text(v.String())
	case string:
		return w.string(v)
	case map[string]any:
		if err := w.room(5 * len(v)); err != nil {
			return err
		}
		return w.nativeObject(v, depth)
	case []any:
		if err := w.room(2 * len(v)); err != nil {
			return err
		}
		w.buf = append(w.buf, '[')
		for i, element := range v {
			if i > 0 {
				w.buf = append(w.buf, ',')
			}
			if err := w.native(element, depth+1); err != nil {
				return err
			}
		}
		return w.text("]")
	}
	return w.value(adapter{types.DefaultTypeAdapter}.NativeToValue(v), depth)
}

func (w *writer) double(f float64) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return errors.New("a number that is infinite or none cannot be sent as JSON")
	}
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return w.text(string(text))
}

// string writes s in quotes.
func (w *writer) string(s string) error {
	if err := w.room(len(s) + 2); err != nil {
		return err
	}
	w.buf = append(w.buf, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			w.buf = append(w.buf, '\\', byte(r))
		case r == '\n':
			w.buf = append(w.buf, '\\', 'n')
		case r < ' ' || r == 0x7f || r == 0x2028 || r == 0x2029:
			const digits = "0123456789abcdef"
			w.buf = append(w.buf, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
		default:
			w.buf = utf8.AppendRune(w.buf, r) // what is not UTF-8 becomes U+FFFD
		}
	}
	return w.text(`"`)
}
