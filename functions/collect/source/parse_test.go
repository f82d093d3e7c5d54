package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"pushcluster/functions/collect/rule"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newCompiler(t testing.TB) *rule.Compiler {
	t.Helper()
	c, err := rule.NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// resolve knows one secret by name and takes what is no place for itself.
func resolve(_ context.Context, value string) (string, error) {
	switch {
	case value == "env:GITHUB_SECRET":
		return "sesame", nil
	case strings.HasPrefix(value, "env:"):
		return "", fmt.Errorf("%s: the variable is not set", value)
	}
	return value, nil
}

const example = `# The example of the documentation.
sources:
  github:
    verify: github
    secrets: [env:GITHUB_SECRET]
    rules:
      - name: review
        when: body.action == "opened" && has(body.pull_request)
        to: { users: "body.pull_request.requested_reviewers.map(r, string(r.id))" }
        event: '"review.requested"'
        data: '{"title": body.pull_request.title, "url": body.pull_request.html_url}'
        ttl: 72h
        collapse_key: '"pr-" + string(body.pull_request.id)'
      - to:
          channels: '["repo:" + body.repository.full_name]'
          all: false
        data: |
          {
            "action": body.action,
          }
  shop:
    verify: custom
    custom:
      header: X-Signature
      prefix: sha512=
      algorithm: hmac-sha512
      encoding: hex
      template: "{timestamp}.{body}"
      timestamp: X-Timestamp
      tolerance: 2m
      id: header:X-Id
    secrets:
      - new secret
      - old secret
    rules: {to: {all: true}}
`

func TestParse(t *testing.T) {
	set, err := Parse(t.Context(), []byte(example), newCompiler(t), resolve)
	if err != nil {
		t.Fatal(err)
	}
	if names := strings.Join(set.Names(), ","); names != "github,shop" {
		t.Errorf("Names = %s", names)
	}
	github, err := set.Source(t.Context(), "github")
	if err != nil || github.Verify != "github" || github.Receiver == nil || len(github.Rules) != 2 {
		t.Fatalf("github = %+v", github)
	}
	if spec := github.Rules[0].Spec(); spec.Name != "review" || spec.TTL.Hours() != 72 || spec.Event != `"review.requested"` {
		t.Errorf("rule 0 = %+v", spec)
	}
	if spec := github.Rules[1].Spec(); spec.Name != "1" || spec.To.All != "false" || !strings.Contains(spec.Data, "\n") {
		t.Errorf("rule 1 = %+v", spec)
	}
	shop, _ := set.Source(t.Context(), "shop")
	if s := shop.Receiver.Scheme(); s.Header != "X-Signature" || s.Tolerance.Minutes() != 2 || s.ID != "header:X-Id" {
		t.Errorf("shop's scheme = %+v", s)
	}
	if _, err := set.Source(t.Context(), "nobody"); !errors.Is(err, ErrNone) {
		t.Error("a source that is not there was found")
	}
	if _, err := (*Set)(nil).Source(t.Context(), "github"); !errors.Is(err, ErrNone) || (*Set)(nil).Names() != nil {
		t.Error("the nil Set is not empty")
	}
}

// TestParseCallback: where a source is told what became of its messages.
func TestParseCallback(t *testing.T) {
	file := "sources:\n  a:\n    verify: gitlab\n    secrets: x\n    rules: {to: {all: true}}\n    callback: {url: 'https://shop.example/pushed', secrets: a secret of 24 bytes here"
	tests := map[string]struct {
		rest string
		want []string
	}{
		"everything": {"}\n", Events()},
		"one":        {", events: message.expired}\n", []string{EventExpired}},
		"two":        {", events: [message.expired, message.received]}\n", []string{EventExpired, EventReceived}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			set, err := Parse(t.Context(), []byte(file+tt.rest), newCompiler(t), resolve)
			if err != nil {
				t.Fatal(err)
			}
			a, _ := set.Source(t.Context(), "a")
			c := a.Callback
			if c == nil || c.URL != "https://shop.example/pushed" || c.Signer == nil {
				t.Fatalf("the callback is %+v", c)
			}
			for _, event := range Events() {
				if c.Wants(event) != slices.Contains(tt.want, event) {
					t.Errorf("Wants(%s) = %v", event, c.Wants(event))
				}
			}
		})
	}
	if (*Callback)(nil).Wants(EventExpired) {
		t.Error("no callback wants something")
	}
}

func TestParseFaults(t *testing.T) {
	good := func(change ...string) string { return strings.NewReplacer(change...).Replace(example) }
	tests := map[string]struct {
		file string
		want []string // beginnings of the faults, in their order
	}{
		"nothing at all":        {"", nil},
		"no sources":            {"sources:\n", nil},
		"a comment":             {"# later\n", nil},
		"not YAML":              {"sources: [", []string{"line 1, column "}},
		"a tab":                 {"sources:\n\tgithub: 1\n", []string{"line 2, column 1: not YAML"}},
		"a list":                {"- 1\n", []string{"line 1, column 1: must be a mapping of fields, not a list"}},
		"a text":                {"hello\n", []string{"line 1, column 1: must be a mapping"}},
		"two documents":         {"sources:\n---\nsources:\n", []string{"line 3, column 1: the file must hold one document"}},
		"misspelt":              {"source:\n  a: 1\n", []string{"line 1, column 1: source: there is no such field; there are sources"}},
		"source name":           {"sources:\n  a/b: {}\n", []string{"line 2, column 3: sources.a/b: a name has only"}},
		"empty source":          {"sources:\n  a: {}\n", []string{"line 2, column 6: sources.a.verify: is missing", "line 2, column 6: sources.a.secrets: is missing", "line 2, column 6: sources.a.rules: is missing"}},
		"null source":           {"sources:\n  a:\n", []string{"line 2, column 6: sources.a: must be a mapping of fields, not nothing"}},
		"source is there twice": {"sources:\n  a: {}\n  a: {}\n", []string{"line 3, column 3: not YAML"}},
		"unknown preset":        {good("verify: github", "verify: gitbub"), []string{`line 4, column 13: sources.github.verify: "gitbub" is none of`}},
		"unsigned":              {good("verify: github", "verify: none"), []string{`line 4, column 13: sources.github.verify: "none" is none of`}},
		"preset with custom":    {good("verify: custom", "verify: stripe"), []string{"line 23, column 5: sources.shop.custom: belongs to verify: custom"}},
		"custom of nothing":     {"sources:\n  a:\n    verify: custom\n    secrets: [x]\n    rules: {to: {all: true}}\n", []string{"line 3, column 13: sources.a.custom: is missing"}},
		"bad custom":            {good("template: \"{timestamp}.{body}\"", "template: hello", "algorithm: hmac-sha512", "algorithm: md5"), []string{"line 26, column 18: sources.shop.custom.algorithm: \"md5\" is none of", "line 28, column 17: sources.shop.custom.template: {body} is not in it", "line 28, column 17: sources.shop.custom.template: {timestamp}"}},
		"bad tolerance":         {good("tolerance: 2m", "tolerance: two"), []string{"line 30, column 18: sources.shop.custom.tolerance: must be a duration"}},
		"negative tolerance":    {good("tolerance: 2m", "tolerance: -2m"), []string{"line 30, column 18: sources.shop.custom.tolerance: must be more than 0"}},
		"secret not there":      {good("env:GITHUB_SECRET", "env:NOTHING"), []string{"line 5, column 15: sources.github.secrets[0]: env:NOTHING: the variable is not set"}},
		"secrets empty":         {good("[env:GITHUB_SECRET]", "[]"), []string{"line 5, column 5: sources.github.secrets: is empty"}},
		"secret a mapping":      {good("[env:GITHUB_SECRET]", "[{a: b}]"), []string{"line 5, column 15: sources.github.secrets[0]: must be one text"}},
		"unfit secret":          {good("verify: github", "verify: sendgrid"), []string{"line 5, column 14: sources.github.secrets: secret 1: it is no ECDSA public key"}},
		"callback, all wrong":   {good("rules: {to: {all: true}}", "callback: {url: 'gopher://x', secrets: short, events: [message.read]}\n    rules: {to: {all: true}}"), []string{"line 35, column 60: sources.shop.callback.events[0]: is none of message.received", "line 35, column 21: sources.shop.callback.url: must be an address", "line 35, column 44: sources.shop.callback.secrets: signing secret 1 is 5 bytes long"}},
		"callback of nothing":   {good("rules: {to: {all: true}}", "callback: {}\n    rules: {to: {all: true}}"), []string{"line 35, column 15: sources.shop.callback.url: is missing", "line 35, column 15: sources.shop.callback.secrets: is missing"}},
		"rules empty":           {good("rules: {to: {all: true}}", "rules: []"), []string{"line 35, column 5: sources.shop.rules: is empty"}},
		"a rule of nothing":     {good("rules: {to: {all: true}}", "rules: [{}]"), []string{"line 35, column 13: sources.shop.rules[0].to: addresses nobody"}},
		"a rule is a text":      {good("rules: {to: {all: true}}", "rules: yes please"), []string{"line 35, column 12: sources.shop.rules[0]: must be a mapping of fields, not a single value"}},
		"unknown field":         {good("event: '", "evnt: '"), []string{"line 10, column 9: sources.github.rules[0].evnt: there is no such field; there are name, when"}},
		"unknown recipient":     {good("to: { users:", "to: { user:"), []string{"line 9, column 15: sources.github.rules[0].to.user: there is no such field"}},
		"to is a text":          {good("rules: {to: {all: true}}", "rules: {to: all}"), []string{"line 35, column 17: sources.shop.rules[0].to: must be a mapping"}},
		"event without quotes":  {good(`'"review.requested"'`, "review.requested"), []string{"line 10, column 16: sources.github.rules[0].event: undeclared reference to 'review'"}},
		"data is a mapping":     {good(`'{"title": body.pull_request.title, "url": body.pull_request.html_url}'`, "{title: body.title}"), []string{"line 11, column 15: sources.github.rules[0].data: must be one text, not a mapping; put quotes around"}},
		"two rules wrong":       {good("body.action ==", "bodi.action ==", `["repo:" + body.repository.full_name]`, "1"), []string{"line 8, column 15: sources.github.rules[0].when: undeclared reference to 'bodi'", "line 15, column 21: sources.github.rules[1].to.channels: gives int"}},
		"ttl of a number":       {good("ttl: 72h", "ttl: 72"), []string{"line 12, column 14: sources.github.rules[0].ttl: must be a duration"}},
		"ttl too long":          {good("ttl: 72h", "ttl: 7200h"), []string{"line 12, column 14: sources.github.rules[0].ttl: must be from"}},
		"rule names twice":      {good("name: review", "name: 1"), []string{`line 14, column 9: sources.github.rules[1].name: two rules are named "1"`}},
		"an alias":              {"sources:\n  a: &x {verify: github}\n  b: *x\n", []string{"line 2, column 6: sources.a: must be a mapping of fields, not an anchor", "line 3, column 6: sources.b: must be a mapping of fields, not an anchor"}},
		"a billion laughs":      {laughs(), []string{"line "}},
		"a merge":               {"sources:\n  a:\n    <<: {verify: github}\n", []string{"line 3, column "}},
		"too large":             {strings.Repeat("#", MaxFile+1), []string{"the file is larger"}},
		"a deep file":           {strings.Repeat("[", 5000), []string{""}},
	}
	c := newCompiler(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			set, err := Parse(t.Context(), []byte(tt.file), c, resolve)
			if len(tt.want) == 0 {
				if err != nil || len(set.Names()) != 0 {
					t.Errorf("Parse = %v, %v, want no source and no fault", set, err)
				}
				return
			}
			faults := Faults(err)
			if err == nil || set != nil || len(faults) < len(tt.want) {
				t.Fatalf("Parse = %v, %v, want %d faults", set, err, len(tt.want))
			}
			for i, want := range tt.want {
				if got := faults[i].Error(); !strings.HasPrefix(got, want) {
					t.Errorf("fault %d = %s\nwant      %s", i, got, want)
				}
			}
			if strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), "old secret") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

// laughs is a file that aliases make gigabytes of.
func laughs() string {
	var sb strings.Builder
	sb.WriteString("a0: &a0 [x]\n")
	for i := range 30 {
		fmt.Fprintf(&sb, "a%d: &a%d [*a%d, *a%d]\n", i+1, i+1, i, i)
	}
	return sb.String()
}

// FuzzParse reads a stranger's file: it becomes a set or faults.
func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte(`{"sources": {"a": {"verify": "gitlab", "secrets": "x", "rules": [{"to": {"all": true}}]}}}`))
	f.Add([]byte(laughs()))
	f.Add([]byte("sources: !!binary x\n? [a]\n: b\n"))
	c := newCompiler(f)
	f.Fuzz(func(t *testing.T, file []byte) {
		set, err := Parse(t.Context(), file, c, func(_ context.Context, value string) (string, error) {
			if strings.HasPrefix(value, "env:") {
				return "", os.ErrNotExist
			}
			return value, nil
		})
		if (set == nil) == (err == nil) {
			t.Fatalf("Parse(%q) = %v, %v", file, set, err)
		}
		var fault *Fault
		if err != nil && !errors.As(err, &fault) {
			t.Fatalf("Parse(%q) = %v, which is no fault", file, err)
		}
		for _, name := range set.Names() {
			s, err := set.Source(t.Context(), name)
			if err != nil || s == nil || s.Receiver == nil || len(s.Rules) == 0 {
				t.Fatalf("Parse(%q) makes %+v of %q", file, s, name)
			}
		}
	})
}
