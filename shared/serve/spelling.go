package serve

import (
	"bytes"
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// misspelled returns the first name in body that encoding/json takes for a field of
// what it decodes into, a t, and that is written otherwise: it does not mind case,
// so that a body could say one thing twice. "" means none. body has been decoded into
// a t before.
func misspelled(body []byte, t reflect.Type) string {
	if nameless(t) {
		return ""
	}
	s := speller{text: body}
	s.value(t)
	return s.found
}

// A speller goes through one JSON value without fault.
type speller struct {
	text  []byte
	at    int
	found string
}

// value passes over a value that was decoded into a t; nil: into what has no fields.
func (s *speller) value(t reflect.Type) {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	s.space()
	switch c := s.text[s.at]; {
	case t == nil, c != '{' && c != '[':
		s.skip()
	case c == '{':
		s.object(t)
	default:
		s.array(t)
	}
}

func (s *speller) object(t reflect.Type) {
	isStruct := t.Kind() == reflect.Struct
	s.at++
	for s.next('}') {
		begin := s.at
		s.skip()
		quoted := s.text[begin:s.at]
		s.space()
		s.at++ // the colon
		if !isStruct {
			s.value(t.Elem()) // a map's
			continue
		}
		inner, ok := fieldsOf(t)[string(quoted[1:len(quoted)-1])]
		if !ok {
			var name string
			if json.Unmarshal(quoted, &name) == nil { // it may be written with escapes
				inner, ok = fieldsOf(t)[name]
			}
			if !ok && s.found == "" {
				s.found = name
			}
		}
		s.value(inner)
	}
}

func (s *speller) array(t reflect.Type) {
	s.at++
	for s.next(']') {
		s.value(t.Elem())
	}
}

// next goes to what follows in an array or object, and reports whether anything
// does before its end.
func (s *speller) next(end byte) bool {
	s.space()
	if s.text[s.at] == ',' {
		s.at++
		s.space()
	}
	if s.text[s.at] == end {
		s.at++
		return false
	}
	return true
}

func (s *speller) space() {
	for strings.IndexByte(" \t\r\n", s.text[s.at]) >= 0 {
		s.at++
	}
}

// skip passes over a value, whatever is in it.
func (s *speller) skip() {
	for depth := 0; ; {
		switch s.text[s.at] {
		case '"':
			s.string()
		case '{', '[':
			depth++
			s.at++
		case '}', ']':
			depth--
			s.at++
		case ',', ':', ' ', '\t', '\r', '\n':
			s.at++
			continue
		default:
			s.scalar()
		}
		if depth == 0 {
			return
		}
	}
}

func (s *speller) string() {
	for s.at++; ; s.at++ {
		s.at += bytes.IndexAny(s.text[s.at:], `"\`)
		if s.text[s.at] == '"' {
			s.at++
			return
		}
		s.at++ // what the backslash escapes
	}
}

func (s *speller) scalar() {
	for s.at < len(s.text) && strings.IndexByte(",]} \t\r\n", s.text[s.at]) < 0 {
		s.at++
	}
}

// fields holds, by type, what fieldsOf has returned.
var fields sync.Map

// fieldsOf returns the names that a struct has in JSON, with the types of those
// that have fields in turn; the others' are nil.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	if known, ok := fields.Load(t); ok {
		return known.(map[string]reflect.Type)
	}
	of := make(map[string]reflect.Type)
	for _, f := range reflect.VisibleFields(t) {
		tag := f.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		if tag == "-" || !f.IsExported() || f.Anonymous && name == "" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		of[name] = f.Type
		if nameless(f.Type) {
			of[name] = nil
		}
	}
	fields.Store(t, of)
	return of
}

var (
	unmarshaler     = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// nameless reports whether nothing that is decoded into a t has names to check: it
// has no fields, or reads its JSON itself.
func nameless(t reflect.Type) bool {
	if p := reflect.PointerTo(t); p.Implements(unmarshaler) || p.Implements(textUnmarshaler) {
		return true
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return nameless(t.Elem())
	}
	return t.Kind() != reflect.Struct
}
