package source

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParseRules(t *testing.T) {
	c := newCompiler(t)
	tests := map[string]struct {
		text  string
		names string // of the rules
		fault string // the beginning of the first one
	}{
		"YAML":        {"- name: a\n  to: {all: true}\n- to: {users: body.id}\n", "a 1", ""},
		"JSON":        {`[{"name":"a","when":"body.paid","to":{"users":"body.id"},"ttl":"1h"}]`, "a", ""},
		"one":         {"to: {all: true}\n", "0", ""},
		"nothing":     {"", "", "there is no rule in it"},
		"none":        {"[]", "", "there is no rule in it"},
		"not YAML":    {"[", "", "line 1, column "},
		"a text":      {"hello", "", "line 1, column 1: rules[0]: must be a mapping"},
		"two mistake": {"- to: {}\n- to: {all: 1}\n", "", "line 1, column 7: rules[0].to:"},
		"one name":    {"[{name: a, to: {all: true}}, {name: a, to: {all: true}}]", "", "line 1, column 30: rules[1].name: two rules are named"},
		"a source":    {"verify: gitlab\nrules: {to: {all: true}}\n", "", "line 1, column 1: rules[0].verify: there is no such field"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			rules, err := ParseRules([]byte(tt.text), c)
			if tt.fault != "" {
				if faults := Faults(err); len(faults) == 0 || !strings.HasPrefix(faults[0].Error(), tt.fault) || rules != nil {
					t.Errorf("ParseRules(%q) = %v, %v, want %q", tt.text, rules, err, tt.fault)
				}
				return
			}
			var names []string
			for _, r := range rules {
				names = append(names, r.Spec().Name)
			}
			if got := strings.Join(names, " "); err != nil || got != tt.names {
				t.Errorf("ParseRules(%q) = %q, %v, want %q", tt.text, got, err, tt.names)
			}
		})
	}
}

func TestRetain(t *testing.T) {
	c := newCompiler(t)
	tests := map[string]struct {
		line  string
		want  time.Duration
		fault bool
	}{
		"unsaid":   {"", DefaultRetain, false},
		"null":     {"retain:", DefaultRetain, false},
		"some":     {"retain: 72h", 72 * time.Hour, false},
		"none":     {"retain: 0", 0, false},
		"0s":       {"retain: 0s", 0, false},
		"longest":  {"retain: 672h", MaxRetain, false},
		"longer":   {"retain: 673h", 0, true},
		"negative": {"retain: -1h", 0, true},
		"a number": {"retain: 72", 0, true},
		"a list":   {"retain: [1h]", 0, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := ParseSource(t.Context(), "a", []byte("verify: gitlab\nsecrets: x\nrules: {to: {all: true}}\n"+tt.line+"\n"), c, resolve)
			if tt.fault {
				if faults := Faults(err); len(faults) != 1 || faults[0].Line != 4 || faults[0].Field != "retain" {
					t.Errorf("%q = %v, want a fault of retain in line 4", tt.line, err)
				}
				return
			}
			if err != nil || s.Retain != tt.want {
				t.Errorf("%q = %+v, %v, want %s", tt.line, s, err, tt.want)
			}
		})
	}
}

// FuzzParseRules reads a stranger's rules: they become rules or faults.
func FuzzParseRules(f *testing.F) {
	f.Add([]byte(`[{"when":"body.paid","to":{"users":"body.id"}}]`))
	f.Add([]byte("- to: {all: true}\n- to: &a {all: 1}\n"))
	f.Add([]byte(laughs()))
	c := newCompiler(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, err := ParseRules(text, c)
		if (len(rules) == 0) == (err == nil) {
			t.Fatalf("ParseRules(%q) = %v, %v", text, rules, err)
		}
		var fault *Fault
		if err != nil && !errors.As(err, &fault) {
			t.Fatalf("ParseRules(%q) = %v, which is no fault", text, err)
		}
	})
}
