package source

import (
	"fmt"
	"strings"
	"testing"
)

func TestBoundedDocument(t *testing.T) {
	rules := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `{"name":"rule-%d","when":"body.a == 'b' && has(body.c)","to":{"users":"[body.id]","channels":"['news']","all":"false"},`+
				`"event":"'made'","data":"body","ttl":"72h","collapse_key":"body.id"},`+"\n", i)
		}
		return "[" + strings.TrimSuffix(b.String(), ",\n") + "]"
	}
	tests := map[string]struct {
		text  string
		fault string // "": there is none
	}{
		"rules of all fields, a hundred": {rules(maxRules), ""},
		"brackets, as deep as may be":    {strings.Repeat("[", maxBrackets) + strings.Repeat("]", maxBrackets), ""},
		"brackets, too deep":             {strings.Repeat("[", maxBrackets+1) + strings.Repeat("]", maxBrackets+1), "line 1, column 51: nests deeper than 50 brackets"},
		"open brackets":                  {strings.Repeat("[", 200_000), "line 1, column 51: nests deeper than 50 brackets"},
		"closed, then open":              {strings.Repeat("]", 100) + strings.Repeat("[", 100), "line 1, column 151: nests deeper than 50 brackets"},
		"open braces":                    {strings.Repeat("{a: ", 60_000), "line 1, column 201: nests deeper than 50 brackets"},
		"brackets beside one another":    {"[" + strings.Repeat("[],", 2000) + "1]", ""},
		"too many of them":               {"[" + strings.Repeat("[],", 80_000) + "1]", "it has more than 10000 words and signs"},
		"lists in lists":                 {strings.Repeat("- ", 100_000), "it has more than 10000 words and signs"},
		"texts":                          {strings.Repeat("'a' ", 60_000), "it has more than 10000 words and signs"},
		"a long text":                    {"a: " + strings.Repeat("b ", 100_000), ""},
		"a comment of the most":          {strings.Repeat("#", MaxDefinition), ""},
		"one byte more":                  {strings.Repeat("#", MaxDefinition+1), "it is larger than 262144 bytes"},
		"an error of the lexer":          {"a: @b", "line 1, column 4: not YAML: "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root, err := boundedDocument([]byte(tt.text))
			switch {
			case tt.fault == "" && err != nil:
				t.Errorf("boundedDocument(%.40q) = %v", tt.text, err)
			case tt.fault != "" && (err == nil || root != nil || !strings.HasPrefix(err.Error(), tt.fault)):
				t.Errorf("boundedDocument(%.40q) = %v, %v, want %q", tt.text, root, err, tt.fault)
			}
		})
	}
}
