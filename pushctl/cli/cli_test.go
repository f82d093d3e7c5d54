package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"pushcluster/pushctl/api"
	"pushcluster/pushctl/follow"
	"pushcluster/shared/push"
)

// What needs a server is told as stories in localstack/e2e/testdata/pushctl.

func TestComplete(t *testing.T) {
	var g grammar
	k, err := newParser(&g, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		words []string
		want  []string
	}{
		"a command":          {[]string{"to"}, []string{"token"}},
		"a command below":    {[]string{"parked", "re"}, []string{"replay"}},
		"after flags":        {[]string{"--json", "--url", "x", "parked", "d"}, []string{"discard"}},
		"after a short flag": {[]string{"send", "-u", "42", "--te"}, []string{"--text"}},
		"a flag's value":     {[]string{"nodes", "--color", ""}, []string{"auto", "always", "never"}},
		"a value behind =":   {[]string{"nodes", "--color=n"}, []string{"--color=never"}},
		"a file":             {[]string{"sources", "check", ""}, nil},
		"a free value":       {[]string{"send", "--text", "st"}, nil},
		"a place":            {[]string{"completion", "b"}, []string{"bash"}},
		"nothing hidden":     {[]string{"__"}, nil},
		"by another name":    {[]string{"ping", "--jso"}, []string{"--json"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, one := range complete(k.Model.Node, tt.words) {
				word, _, _ := strings.Cut(one, "\t")
				got = append(got, word)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("complete(%q) = %q, want %q", tt.words, got, tt.want)
			}
		})
	}
	t.Run("everything", func(t *testing.T) {
		if got := complete(k.Model.Node, nil); len(got) < 12 {
			t.Errorf("an empty word may become %q", got)
		}
	})
}

func TestMainTellsHowItIsUsed(t *testing.T) {
	tests := map[string]struct {
		args []string
		want int
		out  bool // where it tells what there is
		err  bool
	}{
		"nothing":            {nil, exitUsage, false, true},
		"asked for help":     {[]string{"--help"}, exitOK, true, false},
		"a flag and no more": {[]string{"--json"}, exitUsage, false, false},
		"no command":         {[]string{"sent"}, exitUsage, false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			got := Main(t.Context(), tt.args, strings.NewReader(""), &stdout, &stderr)
			told := func(b *bytes.Buffer) bool { return strings.Contains(b.String(), "Usage: pushctl <command>") }
			if got != tt.want || told(&stdout) != tt.out || told(&stderr) != tt.err {
				t.Errorf("Main(%q) = %d, want %d; it says %q and %q", tt.args, got, tt.want, &stdout, &stderr)
			}
		})
	}
}

// Whoever chooses what is no choice is told what they are, and so is a shell that
// completes.
func TestMainNamesTheChoices(t *testing.T) {
	const outcomes = `"accepted","no_rule_matched","nobody","parked"`
	tests := map[string]struct {
		args []string
		want string
	}{
		"of a list":         {[]string{"deliveries", "shop", "--outcome", "parkd"}, outcomes + `,"refused","challenge" but got "parkd"`},
		"of a replay":       {[]string{"replay", "shop", "--outcome", "parkd"}, outcomes + ` but got "parkd"`},
		"of a dry run":      {[]string{"dry-run", "shop", "rules.yaml", "--outcome", ""}, outcomes + ` but got ""`},
		"for every command": {[]string{"nodes", "--color", "red"}, `"auto","always","never" but got "red"`},
		"a place":           {[]string{"completion", "tcsh"}, `"bash","zsh","fish" but got "tcsh"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			code := Main(t.Context(), tt.args, strings.NewReader(""), io.Discard, &stderr)
			if code != exitUsage || !strings.Contains(stderr.String(), " must be one of "+tt.want+"\n") {
				t.Errorf("Main(%q) = %d and says %q, want %d and the choices %s", tt.args, code, &stderr, exitUsage, tt.want)
			}
		})
	}
	var g grammar
	k, err := newParser(&g, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{{"deliveries", "shop", "--outcome", ""}, {"replay", "shop", "--outcome", ""}, {"dry-run", "shop", "--outcome", ""}} {
		if got := complete(k.Model.Node, words); len(got) < 4 || slices.Contains(got, "") {
			t.Errorf("complete(%q) = %q, want the outcomes", words, got)
		}
	}
}

// What is wrong with a command's words names the command whose help says more.
func TestMainNamesTheCommand(t *testing.T) {
	tests := map[string]struct {
		args []string
		want string
	}{
		"a command":       {[]string{"send", "-u"}, "See pushctl send --help.\n"},
		"a command below": {[]string{"parked", "discard"}, "See pushctl parked discard --help.\n"},
		"no command":      {[]string{"sent"}, "See pushctl --help.\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			if code := Main(t.Context(), tt.args, strings.NewReader(""), io.Discard, &stderr); code != exitUsage || !strings.HasSuffix(stderr.String(), tt.want) {
				t.Errorf("Main(%q) = %d and says %q, want %d and %q at the end", tt.args, code, &stderr, exitUsage, tt.want)
			}
		})
	}
}

// A stack.json that somebody names is there; the one that nobody names need not be.
func TestMainNamesTheStack(t *testing.T) {
	for _, name := range []string{"PUSHCLUSTER_URL", "COLLECT_URL", "AUTH_URL", "NODE_URL", "PUSHCLUSTER_KEY"} {
		t.Setenv(name, "")
	}
	t.Chdir(t.TempDir())
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"named": {[]string{"nodes", "--stack", "other/stack.json"}, "pushctl: open other/stack.json: "},
		"none":  {[]string{"nodes"}, "pushctl: Collect cannot be asked: its URL is not known\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			if code := Main(t.Context(), tt.args, strings.NewReader(""), io.Discard, &stderr); code != exitFailed || !strings.HasPrefix(stderr.String(), tt.want) {
				t.Errorf("Main(%q) = %d and says %q, want %d and %q", tt.args, code, &stderr, exitFailed, tt.want)
			}
		})
	}
}

// An interrupt ends what waits for a stdin that says nothing.
func TestMainInterrupted(t *testing.T) {
	for name, args := range map[string][]string{
		"lines": {"send", "--batch", "-", "--id", "import-3", "--url", "http://127.0.0.1:1"},
		"whole": {"sources", "check", "-"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			stdin, typed := io.Pipe()
			defer typed.Close()
			ended := make(chan int, 1)
			var stderr bytes.Buffer
			go func() { ended <- Main(ctx, args, stdin, io.Discard, &stderr) }()
			typed.Write([]byte(" \n")) // somebody reads now
			interrupt()
			select {
			case code := <-ended:
				if code != exitFailed || !strings.Contains(stderr.String(), "interrupted") {
					t.Errorf("Main(%q) = %d and says %q, want %d and that it was interrupted", args, code, &stderr, exitFailed)
				}
			case <-time.After(time.Minute): // the machine may stand still meanwhile
				t.Errorf("Main(%q) still waits for stdin", args)
			}
		})
	}
}

// That a node may be elsewhere is told of a socket that could not be opened alone.
func TestHintOfTail(t *testing.T) {
	const node = "http://127.0.0.1:8711"
	tests := map[string]struct {
		err  error
		want string
	}{
		"no socket":       {&follow.Unreached{Node: node, Err: errors.New("connection refused")}, "is a push node there"},
		"no token":        {&api.Error{Service: "Auth", URL: "http://127.0.0.1:8701", Err: errors.New("connection refused")}, "is it running? AUTH_URL"},
		"an expired one":  {&follow.Refused{Node: node, Code: 109, Reason: "token expired"}, "get a new token"},
		"Auth is away":    {&follow.Refused{Node: node, Code: 100, Reason: "internal server error", Temporary: true}, "repeat it in a moment"},
		"a bad request":   {&follow.Refused{Node: node, Code: 107, Reason: "bad request"}, ""},
		"a revoked token": {&follow.Ended{Code: 3500, Reason: "invalid token"}, "the token does not count"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := describe(tt.err).Hint; !strings.HasPrefix(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("describe(%v) hints %q, want %q", tt.err, got, tt.want)
			}
		})
	}
}

func TestColoured(t *testing.T) {
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	tests := map[string]struct {
		wish   string
		getenv func(string) string
		want   bool
	}{
		"always":           {"always", env("NO_COLOR", "1"), true},
		"never":            {"never", env(), false},
		"no terminal":      {"auto", env(), false},
		"asked not to":     {"auto", env("NO_COLOR", "1"), false},
		"a plain terminal": {"auto", env("TERM", "dumb"), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := coloured(tt.wish, &bytes.Buffer{}, tt.getenv); got != tt.want {
				t.Errorf("coloured(%s) = %v, want %v", tt.wish, got, tt.want)
			}
		})
	}
}

func TestDeliverAt(t *testing.T) {
	now := time.Date(2030, 1, 31, 9, 30, 0, 0, time.UTC)
	tests := map[string]struct {
		text, want string // want "!": an error
	}{
		"none":       {"", ""},
		"a time":     {"2030-01-31T10:30:00+01:00", "2030-01-31T10:30:00+01:00"},
		"a duration": {"90m", "2030-01-31T11:00:00Z"},
		"with plus":  {"+1s", "2030-01-31T09:30:01Z"},
		"a word":     {"tomorrow", "!"},
		"a date":     {"2030-01-31", "!"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := deliverAt(tt.text, now)
			if (tt.want == "!") != (err != nil) || (err == nil && got != tt.want) {
				t.Errorf("deliverAt(%q) = %q, %v, want %q", tt.text, got, err, tt.want)
			}
		})
	}
}

func TestDefinitionOf(t *testing.T) {
	const one = "verify: gitlab\nrules: []\n"
	tests := map[string]struct {
		text, want string // want empty: an error
	}{
		"one source":      {one, one},
		"a whole file":    {"sources:\n  a: {verify: gitlab, secrets: ['1', 0200]}\n  b: {}\n", `{"secrets":["1","0200"],"verify":"gitlab"}`},
		"another's file":  {"sources:\n  b: {verify: gitlab}\n", ""},
		"an empty file":   {"sources: {}\n", ""},
		"not YAML at all": {"a: [", "a: ["},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := definitionOf([]byte(tt.text), "a")
			if string(got) != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("definitionOf = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestRulesOf(t *testing.T) {
	tests := map[string]struct {
		text, want string // want empty: an error
	}{
		"a list":         {"- name: a\n", `"- name: a\n"`},
		"one source":     {"verify: gitlab\nrules: [{name: a}]\n", `[{"name":"a"}]`},
		"a whole file":   {"sources: {a: {rules: [{name: x}]}, b: {rules: [{name: y}]}}\n", `[{"name":"x"}]`},
		"another's file": {"sources: {b: {rules: [{name: y}]}}\n", ""},
		"nonsense":       {"[", `"["`}, // the server says what is wrong
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := rulesOf([]byte(tt.text), "a")
			if string(got) != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("rulesOf = %s, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestAgo(t *testing.T) {
	now := time.Date(2030, 1, 31, 9, 30, 0, 0, time.UTC)
	tests := map[string]struct {
		text, want string // want "!": an error
	}{
		"none":       {"", ""},
		"a time":     {"2030-01-31T09:00:00Z", "2030-01-31T09:00:00Z"},
		"a duration": {"90m", "2030-01-31T08:00:00Z"},
		"ahead":      {"-90m", "!"},
		"a word":     {"yesterday", "!"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := ago("--from", tt.text, now)
			if (tt.want == "!") != (err != nil) || (err == nil && got != tt.want) {
				t.Errorf("ago(%q) = %q, %v, want %q", tt.text, got, err, tt.want)
			}
		})
	}
}

func TestRecipients(t *testing.T) {
	tests := map[string]struct {
		to   push.Recipients
		want string
	}{
		"all":    {push.Recipients{All: true}, "all"},
		"some":   {push.Recipients{Users: []push.UserID{"1", "2"}, Channels: []push.Channel{"news"}}, "user 1, user 2, topic news"},
		"nobody": {push.Recipients{}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := recipients(tt.to); got != tt.want {
				t.Errorf("recipients = %q, want %q", got, tt.want)
			}
		})
	}
	many := recipients(push.Recipients{Users: slices.Repeat([]push.UserID{"u"}, 500)})
	if !strings.HasSuffix(many, ", and 480 more") {
		t.Errorf("of many it says %q", many)
	}
}

// FuzzFacts reads whatever lies where stack.json should.
func FuzzFacts(f *testing.F) {
	f.Add([]byte(`{"collect":"http://127.0.0.1:8702","nodes":[{"public":"x"}],"api_key":"k"}`))
	f.Add([]byte(`{"nodes":[null]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if got, err := parseFacts("stack.json", text); (got == nil) == (err == nil) || (got != nil && got.Collect == "") {
			t.Errorf("parseFacts(%q) = %+v, %v", text, got, err)
		}
	})
}

// FuzzDecodeBody reads any webhook's body: JSON or a text.
func FuzzDecodeBody(f *testing.F) {
	f.Add([]byte(`{"a":1}`))
	f.Add([]byte("a=b"))
	f.Add([]byte("{} {}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		decodeBody(text)
	})
}

// FuzzDefinitionOf reads any file that somebody would put.
func FuzzDefinitionOf(f *testing.F) {
	f.Add([]byte("sources:\n  a: {b: c}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if got, err := definitionOf(text, "a"); err == nil && len(text) > 0 && len(got) == 0 {
			t.Errorf("definitionOf(%q) is empty", text)
		}
	})
}
