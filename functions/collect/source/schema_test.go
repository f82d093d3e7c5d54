package source

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"pushcluster/shared/signature"
)

// schemaFile is what editors are pointed to.
const schemaFile = "../../../docs/sources.schema.json"

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	file, err := os.Open(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	doc, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("sources.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("sources.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// TestSchemaAgrees holds the schema against the parser: neither takes what the
// other refuses, but for what no schema can know (expressions, secrets).
func TestSchemaAgrees(t *testing.T) {
	source := func(verify, rest string) string {
		return fmt.Sprintf("sources:\n  a:\n    verify: %s\n    secrets: [x]\n%s", verify, rest)
	}
	callback := func(fields string) string { return "    callback: {" + fields + "}\n" }
	rules := "    rules: [{to: {all: true}}]\n"
	rule := func(fields string) string { return source("gitlab", "    rules: [{"+fields+"}]\n") }
	tests := map[string]struct {
		file string
		ok   bool
	}{
		"the example":          {example, true},
		"empty":                {"sources:\n", true},
		"misspelt":             {"source: {}\n", false},
		"least":                {source("gitlab", rules), true},
		"retired":              {source("gitlab", "    retired: [y, z]\n"+rules), true},
		"retired, one":         {source("gitlab", "    retired: y\n"+rules), true},
		"retired, none":        {source("gitlab", "    retired: []\n"+rules), true},
		"retired, a mapping":   {source("gitlab", "    retired: {a: b}\n"+rules), false},
		"retain":               {source("gitlab", "    retain: 72h\n"+rules), true},
		"retain nothing":       {source("gitlab", "    retain: 0\n"+rules), true},
		"retain no time":       {source("gitlab", "    retain: long\n"+rules), false},
		"retain a number":      {source("gitlab", "    retain: 72\n"+rules), false},
		"callback":             {source("gitlab", callback("url: https://a.example/b?c=d, secrets: [aaaaaaaaaaaaaaaaaaaaaaaa]")+rules), true},
		"callback, an event":   {source("gitlab", callback("url: http://a.example, secrets: aaaaaaaaaaaaaaaaaaaaaaaa, events: message.expired")+rules), true},
		"callback, two events": {source("gitlab", callback("url: http://a.example:81, secrets: aaaaaaaaaaaaaaaaaaaaaaaa, events: [message.expired, message.received]")+rules), true},
		"callback, none":       {source("gitlab", "    callback:\n"+rules), true},
		"callback, no secrets": {source("gitlab", callback("url: https://a.example")+rules), false},
		"callback, no url":     {source("gitlab", callback("secrets: aaaaaaaaaaaaaaaaaaaaaaaa")+rules), false},
		"callback, ftp":        {source("gitlab", callback("url: ftp://a.example, secrets: aaaaaaaaaaaaaaaaaaaaaaaa")+rules), false},
		"callback, a user":     {source("gitlab", callback("url: https://a:b@c.example, secrets: aaaaaaaaaaaaaaaaaaaaaaaa")+rules), false},
		"callback, fragment":   {source("gitlab", callback("url: https://a.example/#b, secrets: aaaaaaaaaaaaaaaaaaaaaaaa")+rules), false},
		"callback, misspelt":   {source("gitlab", callback("url: https://a.example, secrets: aaaaaaaaaaaaaaaaaaaaaaaa, event: message.received")+rules), false},
		"callback, odd event":  {source("gitlab", callback("url: https://a.example, secrets: aaaaaaaaaaaaaaaaaaaaaaaa, events: [message.read]")+rules), false},
		"callback, no event":   {source("gitlab", callback("url: https://a.example, secrets: aaaaaaaaaaaaaaaaaaaaaaaa, events: []")+rules), false},
		"callback, one twice":  {source("gitlab", callback("url: https://a.example, secrets: aaaaaaaaaaaaaaaaaaaaaaaa, events: [message.expired, message.expired]")+rules), false},
		"one rule, no list":    {source("gitlab", "    rules: {to: {users: body.id}}\n"), true},
		"no rules":             {source("gitlab", ""), false},
		"empty rules":          {source("gitlab", "    rules: []\n"), false},
		"no secrets":           {"sources: {a: {verify: gitlab, rules: [{to: {all: true}}]}}\n", false},
		"empty secrets":        {"sources: {a: {verify: gitlab, secrets: [], rules: [{to: {all: true}}]}}\n", false},
		"no verify":            {"sources: {a: {secrets: [x], rules: [{to: {all: true}}]}}\n", false},
		"unknown preset":       {source("gitbub", rules), false},
		"custom":               {source("custom", "    custom: {header: X-Sig}\n"+rules), true},
		"custom without":       {source("custom", rules), false},
		"preset with custom":   {source("gitlab", "    custom: {header: X-Sig}\n"+rules), false},
		"custom, no header":    {source("custom", "    custom: {prefix: x}\n"+rules), false},
		"custom, odd header":   {source("custom", "    custom: {header: 'a b'}\n"+rules), false},
		"custom, algorithm":    {source("custom", "    custom: {header: X, algorithm: md5}\n"+rules), false},
		"custom, encoding":     {source("custom", "    custom: {header: X, encoding: base32}\n"+rules), false},
		"custom, tolerance":    {source("custom", "    custom: {header: X, tolerance: 90}\n"+rules), false},
		"custom, id":           {source("custom", "    custom: {header: X, id: 'body:a.b'}\n"+rules), true},
		"custom, odd id":       {source("custom", "    custom: {header: X, id: 'query:a'}\n"+rules), false},
		"custom, more":         {source("custom", "    custom: {header: X, secret: y}\n"+rules), false},
		"name of a source":     {"sources: {'a b': {verify: gitlab, secrets: [x], rules: [{to: {all: true}}]}}\n", false},
		"rule without to":      {rule("when: 'true'"), false},
		"to nobody":            {rule("to: {}"), false},
		"to somebody else":     {rule("to: {user: body.id}"), false},
		"unknown field":        {rule("to: {all: true}, priority: high"), false},
		"data a mapping":       {rule("to: {all: true}, data: {a: b}"), false},
		"ttl":                  {rule("to: {all: true}, ttl: 1h30m"), true},
		"ttl a number":         {rule("to: {all: true}, ttl: 60"), false},
		"name of a rule":       {rule("to: {all: true}, name: 'a/b'"), false},
		"number for a name":    {rule("to: {all: true}, name: 7"), true},
		"number for an event":  {rule("to: {all: true}, data: 7"), true},
		"expression far along": {rule("to: {all: true}, data: '" + strings.Repeat("1+", 3000) + "1'"), false},
		"a limit":              {source("gitlab", "    limit: {rate: 100/s, burst: 200}\n"+rules), true},
		"limits":               {source("gitlab", "    limit: [{rate: 100/s}, {rate: 100000/d}]\n"+rules), true},
		"limit without rate":   {source("gitlab", "    limit: {burst: 200}\n"+rules), false},
		"limit of a week":      {source("gitlab", "    limit: {rate: 1/w}\n"+rules), false},
		"limit of nothing":     {source("gitlab", "    limit: {rate: 0/s}\n"+rules), false},
		"limit, burst of none": {source("gitlab", "    limit: {rate: 1/s, burst: 0}\n"+rules), false},
		"limit, a text":        {source("gitlab", "    limit: 100/s\n"+rules), false},
		"limit, more":          {source("gitlab", "    limit: {rate: 1/s, per: user}\n"+rules), false},
		"five limits":          {source("gitlab", "    limit: [{rate: 1/s}, {rate: 1/m}, {rate: 1/h}, {rate: 1/d}, {rate: 2/d}]\n"+rules), false},
		"addresses":            {source("gitlab", "    addresses: [192.0.2.0/24, '2001:db8::/32', 203.0.113.9]\n"+rules), true},
		"one address":          {source("gitlab", "    addresses: 203.0.113.9\n"+rules), true},
		"no addresses":         {source("gitlab", "    addresses: []\n"+rules), false},
		"a name, no address":   {source("gitlab", "    addresses: [example.com]\n"+rules), false},
		"two rules":            {source("gitlab", "    rules: [{to: {all: true}}, {to: {channels: body.c}}]\n"), true},
		"token, custom":        {source("custom", "    custom: {header: X-Token, algorithm: token}\n"+rules), true},
	}
	schema, c := compileSchema(t), newCompiler(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var doc any
			if err := yaml.Unmarshal([]byte(tt.file), &doc); err != nil {
				t.Fatal(err)
			}
			asJSON, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(asJSON)))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(value); (err == nil) != tt.ok {
				t.Errorf("the schema says %v, want ok %v", err, tt.ok)
			}
			if _, err := Parse(t.Context(), []byte(tt.file), c, resolve); (err == nil) != tt.ok {
				t.Errorf("Parse says %v, want ok %v", err, tt.ok)
			}
		})
	}
}

// TestSchemaLists compares what the schema lists with what there is.
func TestSchemaLists(t *testing.T) {
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Defs struct {
			Source struct {
				Properties struct {
					Verify struct{ Enum []string }
				}
			}
			Custom struct {
				Properties struct {
					Algorithm struct{ Enum []signature.Algorithm }
				}
			}
			Rule struct{ Properties map[string]any }
		} `json:"$defs"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	if got, want := schema.Defs.Source.Properties.Verify.Enum, append(signature.Presets(), custom); !slices.Equal(got, want) {
		t.Errorf("the schema's presets are %q, want %q", got, want)
	}
	if got := schema.Defs.Custom.Properties.Algorithm.Enum; !slices.Equal(got, signature.Algorithms()) {
		t.Errorf("the schema's algorithms are %q, want %q", got, signature.Algorithms())
	}
	want := []string{"collapse_key", "data", "event", "name", "to", "ttl", "when"}
	if got := slices.Sorted(maps.Keys(schema.Defs.Rule.Properties)); !slices.Equal(got, want) {
		t.Errorf("the schema's fields of a rule are %q, want %q", got, want)
	}
}
