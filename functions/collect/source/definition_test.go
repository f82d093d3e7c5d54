package source

import (
	"strings"
	"testing"
)

func TestDefinition(t *testing.T) {
	const file = `
sources:
  other: { verify: &a gitlab }
  digits:
    verify: gitlab # of a token
    secrets: [0123456, 123456789012345678901234567890, 1.10, 0x1F, 1_000, 12e3, true, "quoted \" #", 2024-01-01]
    retain: 0
    callback:
    rules:
      - name: r
        when: |
          body.a &&
          body.b
        to: { users: '"42"' }
  alias: { verify: *a }
`
	tests := map[string]struct {
		text, name string
		whole      bool
		want       string // the definition, or part of the error
	}{
		"texts as they are written": {file, "digits", true,
			`{"callback":null,"retain":"0","rules":[{"name":"r","to":{"users":"\"42\""},"when":"body.a \u0026\u0026\nbody.b\n"}],` +
				`"secrets":["0123456","123456789012345678901234567890","1.10","0x1F","1_000","12e3","true","quoted \" #","2024-01-01"],"verify":"gitlab"}`},
		"another":       {file, "none", true, `it has no source "none"`},
		"not followed":  {file, "alias", true, "line 15, column 20: sources.alias.verify: must be a mapping, a list or a text, not an anchor or alias"},
		"one source":    {"verify: gitlab", "x", false, ""},
		"a list":        {"- name: x", "x", false, ""},
		"nothing":       {"", "x", false, ""},
		"no YAML":       {"a: [", "x", false, ""},
		"sources of no": {"sources: 1", "x", false, ""},
		"in JSON":       {`{"sources":{"x":{"secrets":[1.10]}}}`, "x", true, `{"secrets":["1.10"]}`},
		"a field twice": {`{"sources":{"x":{"verify":"gitlab","verify":"slack"}}}`, "x", false, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			definition, whole, err := Definition([]byte(tt.text), tt.name)
			got := string(definition)
			if err != nil {
				got = err.Error()
			}
			if whole != tt.whole || !strings.Contains(got, tt.want) || (tt.want == "") != (got == "") {
				t.Errorf("Definition = %s, %v, want %s, %v", got, whole, tt.want, tt.whole)
			}
		})
	}
}
