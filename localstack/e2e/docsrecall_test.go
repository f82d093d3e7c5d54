package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// ellipsis stands for anything in a text, and, as a field of an object, for
// fields that are not shown.
const ellipsis = "…"

// forms are those of what differs from run to run.
var forms = []string{
	`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, // the id of a message or a connection
	`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z`,                    // a time
	`00-[0-9a-f]{32}-[0-9a-f]{16}-0\d`,                             // a trace
	`\b\d{15,17}\b`,                                                // an offset
	`\b[A-Z2-7]{26}\b`,                                             // an epoch, the id of a token
	`~[A-Z2-7]{12}\b`,                                              // a node's nonce
}

var volatile = regexp.MustCompile(strings.Join(forms, "|") + "|" + ellipsis)

// A recall remembers what stood in place of what a page shows, so that the same
// must stand there again.
type recall map[string]string

// replace returns text with what is remembered in place of what the page shows.
func (r recall) replace(text string) string {
	return volatile.ReplaceAllStringFunc(text, func(shown string) string {
		if real, ok := r[shown]; ok {
			return real
		}
		return shown
	})
}

// match returns nil if got reads as the page shows it, and only then remembers.
// Space does not count, nor does the order of a JSON object's fields; "ttl" may
// be any number.
func (r recall) match(shown, got string) error {
	learnt := maps.Clone(r)
	a, isJSON := decode(shown)
	b, both := decode(got)
	var err error
	if isJSON && both {
		err = learnt.matchValue("", a, b)
	} else {
		err = learnt.matchText(strings.Join(strings.Fields(shown), ""), strings.Join(strings.Fields(got), ""))
	}
	if err == nil {
		maps.Copy(r, learnt)
	}
	return err
}

func decode(text string) (v any, ok bool) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	err := dec.Decode(&v)
	return v, err == nil && !dec.More()
}

// matchValue compares two JSON values, which stand at the path at.
func (r recall) matchValue(at string, shown, got any) error {
	switch shown := shown.(type) {
	case map[string]any:
		if got, ok := got.(map[string]any); ok {
			return r.matchObject(at, shown, got)
		}
	case []any:
		if got, ok := got.([]any); ok && len(got) == len(shown) {
			for i := range shown {
				if err := r.matchValue(fmt.Sprintf("%s[%d]", at, i), shown[i], got[i]); err != nil {
					return err
				}
			}
			return nil
		}
	default:
		_, isNumber := got.(json.Number)
		if strings.HasSuffix(at, ".ttl") && isNumber {
			return nil
		}
		if fmt.Sprintf("%T", shown) == fmt.Sprintf("%T", got) {
			if err := r.matchText(fmt.Sprint(shown), fmt.Sprint(got)); err != nil {
				return fmt.Errorf("at %s: %w", at, err)
			}
			return nil
		}
	}
	return fmt.Errorf("at %s: %v is shown, and it is %v", at, shown, got)
}

func (r recall) matchObject(at string, shown, got map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(shown)) {
		if name == ellipsis {
			continue
		}
		value, ok := got[name]
		if !ok {
			return fmt.Errorf("at %s: there is no field %q", at, name)
		}
		if err := r.matchValue(at+"."+name, shown[name], value); err != nil {
			return err
		}
	}
	if _, more := shown[ellipsis]; more {
		return nil
	}
	for name := range got {
		if _, ok := shown[name]; !ok {
			return fmt.Errorf("at %s: field %q is not shown", at, name)
		}
	}
	return nil
}

// matchText compares two texts, and remembers what is volatile.
func (r recall) matchText(shown, got string) error {
	var (
		pattern strings.Builder
		names   []string
		at      int
	)
	pattern.WriteString("(?s)^")
	for _, span := range volatile.FindAllStringIndex(shown, -1) {
		name := shown[span[0]:span[1]]
		pattern.WriteString(regexp.QuoteMeta(shown[at:span[0]]) + "(" + formOf(name) + ")")
		names = append(names, name)
		at = span[1]
	}
	pattern.WriteString(regexp.QuoteMeta(shown[at:]) + "$")
	found := regexp.MustCompile(pattern.String()).FindStringSubmatch(got)
	if found == nil {
		return fmt.Errorf("%s is shown, and it is %s", shown, got)
	}
	for i, name := range names {
		if name == ellipsis {
			continue
		}
		if before, ok := r[name]; ok && before != found[i+1] {
			return fmt.Errorf("%s stood for %s before, and for %s now", name, before, found[i+1])
		}
		r[name] = found[i+1]
	}
	return nil
}

// formOf returns the pattern of what may stand in place of a volatile name.
func formOf(name string) string {
	for _, form := range forms {
		if regexp.MustCompile("^(?:" + form + ")$").MatchString(name) {
			return form
		}
	}
	return ".*?"
}

func TestRecall(t *testing.T) {
	const a, b = "1111111111111111", "2222222222222222"
	tests := map[string]struct {
		shown, got []string // in turn
		wrong      bool
	}{
		"the same":            {[]string{`{"a":1}`}, []string{`{"a":1}`}, false},
		"another order":       {[]string{`{"a":1,"b":"x y"}`}, []string{"{ \"b\": \"x y\",\n\"a\":1}\n"}, false},
		"another value":       {[]string{`{"a":1}`}, []string{`{"a":2}`}, true},
		"another type":        {[]string{`{"a":1}`}, []string{`{"a":"1"}`}, true},
		"a field more":        {[]string{`{"a":1}`}, []string{`{"a":1,"b":1}`}, true},
		"a field less":        {[]string{`{"a":1,"b":1}`}, []string{`{"a":1}`}, true},
		"fields left out":     {[]string{`{"a":1,"…":"…"}`}, []string{`{"a":1,"b":1}`}, false},
		"an element more":     {[]string{`[1]`}, []string{`[1,2]`}, true},
		"anything":            {[]string{`{"a":"x…"}`}, []string{`{"a":"xyz"}`}, false},
		"any ttl":             {[]string{`{"ttl":5}`}, []string{`{"ttl":4}`}, false},
		"an offset":           {[]string{a}, []string{b}, false},
		"an offset in text":   {[]string{`"` + a + `"`}, []string{`"soon"`}, true},
		"the same offset":     {[]string{a, a}, []string{b, b}, false},
		"not the same offset": {[]string{a, a}, []string{b, a}, true},
		"no JSON":             {[]string{"HTTP/1.1 202\nDate: …\n\n{}"}, []string{"HTTP/1.1 202\r\nDate: today\r\n\r\n{}"}, false},
		"no JSON, other":      {[]string{"HTTP/1.1 202"}, []string{"HTTP/1.1 401"}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			known := make(recall)
			var err error
			for i := range tt.shown {
				if err == nil {
					err = known.match(tt.shown[i], tt.got[i])
				}
			}
			if (err != nil) != tt.wrong {
				t.Errorf("match(%q, %q) = %v, want an error: %v", tt.shown, tt.got, err, tt.wrong)
			}
		})
	}
}
