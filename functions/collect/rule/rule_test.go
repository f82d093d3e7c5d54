package rule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/shared/push"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2030, 1, 31, 9, 30, 0, 0, time.UTC)

func newCompiler(t testing.TB) *Compiler {
	t.Helper()
	c, err := NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// decode reads a body as Collect does.
func decode(t testing.TB, body string) any {
	t.Helper()
	var v any
	dec := json.NewDecoder(strings.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return v
}

func inputOf(t testing.TB, body string) *Input {
	t.Helper()
	return &Input{Source: "github", Body: decode(t, body), ReceivedAt: start,
		Headers: map[string]string{"x-github-event": "pull_request"}, Query: map[string]string{"tenant": "7"}}
}

const pullRequest = `{"action":"opened","number":9007199254740993,"ratio":1.10,"labels":[],
	"pull_request":{"id":9007199254740995,"title":"A <b>\u2028 title","html_url":"https://example.com/1",
	"requested_reviewers":[{"id":42,"login":"a"},{"id":9007199254740997,"login":"b"}]}}`

func TestEval(t *testing.T) {
	tests := map[string]struct {
		spec Spec
		body string
		want string // the message in JSON without its ttl; "" no match
	}{
		"the example": {Spec{
			When: `body.action == "opened" && has(body.pull_request)`,
			To:   To{Users: "body.pull_request.requested_reviewers.map(r, string(r.id))"}, Event: `"review.requested"`,
			Data:        `{"title": body.pull_request.title, "url": body.pull_request.html_url}`,
			CollapseKey: `"pr-" + string(body.pull_request.id)`}, pullRequest,
			`{"to":{"users":["42","9007199254740997"]},"event":"review.requested","data":{"title":"A <b>\u2028 title","url":"https://example.com/1"},"collapse_key":"pr-9007199254740995"}`},
		"not for it":           {Spec{When: `body.action == "closed"`, To: To{All: "true"}}, pullRequest, ""},
		"not there, asked":     {Spec{When: `has(body.issue) && body.issue.id == 1`, To: To{All: "true"}}, pullRequest, ""},
		"whole body":           {Spec{To: To{All: "true"}}, `{"b":[1.10,1e2,null,true],"a":"<"}`, `{"to":{"all":true},"data":{"a":"<","b":[1.10,1e2,null,true]}}`},
		"part of the body":     {Spec{To: To{All: "true"}, Data: "{'x': body.b}"}, `{"b":{"n":12345678901234567890123}}`, `{"to":{"all":true},"data":{"x":{"n":12345678901234567890123}}}`},
		"large integers":       {Spec{To: To{All: "true"}, Data: "[body.a, body.a + 1, body.b, string(body.a), string(body.b)]"}, `{"a":9007199254740993,"b":18446744073709551615}`, `{"to":{"all":true},"data":[9007199254740993,9007199254740994,18446744073709551615,"9007199254740993","18446744073709551615"]}`},
		"a string, an int":     {Spec{To: To{Users: "string(body.id)"}, Data: "body.id % 2 == 0"}, `{"id":42}`, `{"to":{"users":["42"]},"data":true}`},
		"int against double":   {Spec{When: "body.n > 1.5 && body.n < 3", To: To{All: "true"}, Data: "1"}, `{"n":2}`, `{"to":{"all":true},"data":1}`},
		"optional, there":      {Spec{To: To{Users: "body.?user.?id"}, Data: "body.?user.?name.orValue('?')"}, `{"user":{"id":"7"}}`, `{"to":{"users":["7"]},"data":"?"}`},
		"optional, not there":  {Spec{To: To{Users: "body.?user.?id"}, Event: "body.?type", Data: "body.?user"}, `{}`, `{"to":{},"data":null}`},
		"null is nobody":       {Spec{To: To{Users: "body.user"}, Data: "null"}, `{"user":null}`, `{"to":{},"data":null}`},
		"topic":                {Spec{To: To{Channels: "['repo:' + body.repo, source]"}, Data: "0"}, `{"repo":"a/b"}`, `{"to":{"channels":["repo:a/b","github"]},"data":0}`},
		"headers and query":    {Spec{To: To{Channels: "headers['x-github-event'] + ':' + query.tenant"}, Data: "headers[?'x'].orValue('none')"}, `{}`, `{"to":{"channels":["pull_request:7"]},"data":"none"}`},
		"times":                {Spec{To: To{All: "true"}, Data: "[received_at, received_at + duration('90s'), timestamp(body.at) - received_at, string(received_at.getFullYear())]"}, `{"at":"2030-01-31T09:30:01.5Z"}`, `{"to":{"all":true},"data":["2030-01-31T09:30:00Z","2030-01-31T09:31:30Z","1.5s","2030"]}`},
		"text functions":       {Spec{To: To{All: "true"}, Data: `[body.t.trim().upperAscii(), body.l.join(", "), body.t.split(" "), body.t.replace("a", "ä"), body.t.trim().substring(0, 2), body.t.indexOf("b"), ["x"].join(), "ÄÖÜ".substring(1), "ÄÖÜ".indexOf("Ü"), [""].join(","), ["",""].join(",")]`}, `{"t":" a b","l":["x","y"]}`, `{"to":{"all":true},"data":["A B","x, y",["","a","b"]," ä b","a ",3,"x","ÖÜ",2,"",","]}`},
		"matches":              {Spec{When: `body.ref.matches("^refs/heads/(main|release-.*)$")`, To: To{All: "true"}, Data: "1"}, `{"ref":"refs/heads/release-2"}`, `{"to":{"all":true},"data":1}`},
		"two variables":        {Spec{To: To{All: "true"}, Data: "body.m.transformMap(k, v, k + string(v))"}, `{"m":{"b":2,"a":1}}`, `{"to":{"all":true},"data":{"a":"a1","b":"b2"}}`},
		"bind":                 {Spec{To: To{All: "true"}, Data: "cel.bind(p, body.a.b, [p, p])"}, `{"a":{"b":1}}`, `{"to":{"all":true},"data":[1,1]}`},
		"bytes and keys":       {Spec{To: To{All: "true"}, Data: "{1: b'abc', true: 1u, 'd': 0.5}"}, `{}`, `{"to":{"all":true},"data":{"1":"YWJj","d":0.5,"true":1}}`},
		"in and equal":         {Spec{When: "body.a in ['x','y'] && 'k' in body.m && body.l == [1, 2] && body.m != {} && !(3 in body.l)", To: To{All: "true"}, Data: "1"}, `{"a":"x","m":{"k":1},"l":[1,2]}`, `{"to":{"all":true},"data":1}`},
		"a body that is text":  {Spec{To: To{All: "body.startsWith('a')"}, Data: "body"}, `"abc"`, `{"to":{"all":true},"data":"abc"}`},
		"a body that is null":  {Spec{To: To{All: "body == null"}}, `null`, `{"to":{"all":true},"data":null}`},
		"control characters":   {Spec{To: To{All: "true"}, Data: `"a\x01\n\"\\"`}, `{}`, `{"to":{"all":true},"data":"a\u0001\n\"\\"}`},
		"all from the body":    {Spec{To: To{All: "body.urgent"}, Data: "1"}, `{"urgent":false}`, `{"to":{},"data":1}`},
		"lists that are added": {Spec{To: To{Users: "body.a + body.b"}, Data: "body.a + body.b"}, `{"a":["1"],"b":["2"]}`, `{"to":{"users":["1","2"]},"data":["1","2"]}`},
	}
	c := newCompiler(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.spec.Name = "r"
			r, err := c.Compile(tt.spec)
			if err != nil {
				t.Fatal(err)
			}
			m, err := r.Eval(t.Context(), inputOf(t, tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if m == nil {
				if tt.want != "" {
					t.Fatalf("no match, want %s", tt.want)
				}
				return
			}
			if !json.Valid(m.Data) {
				t.Fatalf("data %s is not JSON", m.Data)
			}
			var buf bytes.Buffer
			enc := json.NewEncoder(&buf)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(struct {
				To          push.Recipients `json:"to"`
				Event       string          `json:"event,omitempty"`
				Data        json.RawMessage `json:"data"`
				CollapseKey string          `json:"collapse_key,omitempty"`
			}{m.To, m.Event, m.Data, m.CollapseKey}); err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(buf.String()); got != tt.want {
				t.Errorf("message = %s\nwant      %s", got, tt.want)
			}
		})
	}
}

func TestEvalErrors(t *testing.T) {
	tests := map[string]struct {
		spec  Spec
		body  string
		field string
		kind  Kind
		want  string // part of the reason
	}{
		"missing in when":    {Spec{When: "body.issue.id == 1", To: To{All: "true"}}, `{}`, "when", KindMissing, `has(….issue)`},
		"missing in data":    {Spec{To: To{All: "true"}, Data: "body.a.b"}, `{"a":{}}`, "data", KindMissing, `….?b.orValue("")`},
		"no such header":     {Spec{To: To{All: "true"}, Data: `headers["x-none"]`}, `{}`, "data", KindMissing, `there is no "x-none" where the expression looks for it; if it may be missing, ask "x-none" in … in when, or write …[?"x-none"].orValue("")`},
		"list too short":     {Spec{To: To{All: "true"}, Data: "body[3]"}, `[1]`, "data", KindMissing, "list[?0]"},
		"when no bool":       {Spec{When: "body.x", To: To{All: "true"}}, `{"x":"true"}`, "when", KindType, "gives string"},
		"id not a string":    {Spec{To: To{Users: "body.ids"}}, `{"ids":["1",2]}`, "to.users", KindType, "element 1 is int"},
		"users a number":     {Spec{To: To{Users: "body.id"}}, `{"id":1}`, "to.users", KindType, "string(x)"},
		"user with a brace":  {Spec{To: To{Users: "body.id"}}, `{"id":"{1}"}`, "to.users[0]", KindResult, "holds"},
		"topic of a user":    {Spec{To: To{Channels: "body.c"}}, `{"c":["a","#42"]}`, "to.channels[1]", KindResult, "address the user"},
		"empty user":         {Spec{To: To{Users: "['']"}}, `{}`, "to.users[0]", KindResult, "empty"},
		"text and number":    {Spec{To: To{All: "true"}, Event: "'a' + body.n"}, `{"n":1}`, "event", KindType, "string(x)"},
		"event too long":     {Spec{To: To{All: "true"}, Event: "body"}, `"` + strings.Repeat("x", 256) + `"`, "event", KindResult, "256 bytes"},
		"event of two lines": {Spec{To: To{All: "true"}, Event: "body"}, `"a\nb"`, "event", KindResult, "control character"},
		"event a list":       {Spec{To: To{All: "true"}, Event: "body"}, `[]`, "event", KindType, "gives list"},
		"too many users":     {Spec{To: To{Users: "body"}}, "[" + strings.Repeat(`"1",`, 1000) + `"1"]`, "to.users", KindResult, "1001 recipients"},
		"data too large":     {Spec{To: To{All: "true"}, Data: "body.s"}, `{"s":"` + strings.Repeat("x", 65536) + `"}`, "data", KindResult, "65536 bytes"},
		"body too large":     {Spec{To: To{All: "true"}}, `{"s":"` + strings.Repeat("x", 65536) + `"}`, "data", KindResult, "the rule gives none"},
		"data too deep":      {Spec{To: To{All: "true"}}, strings.Repeat("[", 102) + strings.Repeat("]", 102), "data", KindResult, "deeper than 100"},
		"number too large":   {Spec{To: To{Users: "string(body.id)"}}, `{"id":123456789012345678901}`, "to.users", KindType, "too large to be exact"},
		"number of no range": {Spec{To: To{Users: "string(body.id)"}}, `{"id":1e999}`, "to.users", KindType, "out of range"},
		"infinite":           {Spec{To: To{All: "true"}, Data: "body.x / 0.0"}, `{"x":1.5}`, "data", KindResult, "infinite"},
		"a type":             {Spec{To: To{All: "true"}, Data: "[type(body)]"}, `{}`, "data", KindResult, "cannot be sent"},
		"keys that collide":  {Spec{To: To{All: "true"}, Data: "{1: 1, '1': 2}"}, `{}`, "data", KindResult, "two keys"},
		"join of numbers":    {Spec{To: To{All: "true"}, Data: "body.join(',')"}, `[1]`, "data", KindType, "in a list .map(x, string(x))"},
		"substring outside":  {Spec{To: To{All: "true"}, Data: "body.substring(2, 5)"}, `"abc"`, "data", KindType, "outside of a text of 3"},
		"negative substring": {Spec{To: To{All: "true"}, Data: "body.substring(-1)"}, `"abc"`, "data", KindType, "outside"},
		"not a time":         {Spec{To: To{All: "true"}, Data: "timestamp(body)"}, `"today"`, "data", KindType, ""},
	}
	c := newCompiler(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.spec.Name = "r"
			r, err := c.Compile(tt.spec)
			if err != nil {
				t.Fatal(err)
			}
			m, err := r.Eval(t.Context(), inputOf(t, tt.body))
			var e *Error
			if !errors.As(err, &e) || e.Field != tt.field || e.Kind != tt.kind || !strings.Contains(e.Reason, tt.want) {
				t.Errorf("Eval = %+v, %v, want %s (%s) with %q", m, err, tt.field, tt.kind, tt.want)
			}
		})
	}
}

func TestCompileErrors(t *testing.T) {
	all := To{All: "true"}
	tests := map[string]struct {
		spec Spec
		want []string // "field: part of its reason"
	}{
		"nothing":             {Spec{Name: "r"}, []string{"to: addresses nobody"}},
		"bad name":            {Spec{Name: "a/b", To: all}, []string{"name: a name has only"}},
		"event without quote": {Spec{Name: "r", To: all, Event: "review.requested"}, []string{`event: undeclared reference to 'review'`}},
		"the quotes' lesson":  {Spec{Name: "r", To: all, Event: "review"}, []string{`event: undeclared reference`}},
		"syntax":              {Spec{Name: "r", To: all, Data: "{"}, []string{"data: Syntax error"}},
		"wrong types":         {Spec{Name: "r", When: "1", To: To{Users: "[1]", Channels: "{}"}, Event: "1", CollapseKey: "[]"}, []string{"when: gives int", "to.users: gives list(int)", "to.channels: gives map", "event: gives int", "collapse_key: gives list"}},
		"unknown function":    {Spec{Name: "r", To: all, Data: "body.format([1])"}, []string{"data: undeclared reference to 'format'"}},
		"types that clash":    {Spec{Name: "r", To: all, Data: "1 + 'a'"}, []string{"data: found no matching overload"}},
		"computed pattern":    {Spec{Name: "r", When: "'a'.matches(body.re)", To: all}, []string{"when: the pattern of matches must be a text in quotes"}},
		"no pattern":          {Spec{Name: "r", When: "'a'.matches('(')", To: all}, []string{"when: the pattern of matches is not"}},
		"huge pattern":        {Spec{Name: "r", When: "'a'.matches('((a{100}){100}){9}')", To: all}, []string{"when: the pattern of matches"}},
		"too long":            {Spec{Name: "r", To: all, Data: strings.Repeat("1+", 3000) + "1"}, []string{"data: the expression is longer than 4096"}},
		"far too long":        {Spec{Name: "r", To: all, Data: strings.Repeat("1+", 1_000_000) + "1"}, []string{"data: the expression is longer than 4096"}},
		"too deep":            {Spec{Name: "r", To: all, Data: strings.Repeat("(", 1000) + "1" + strings.Repeat(")", 1000)}, []string{"data: "}},
		"ttl too short":       {Spec{Name: "r", To: all, TTL: time.Millisecond}, []string{"ttl: must be from 1s"}},
		"ttl too long":        {Spec{Name: "r", To: all, TTL: 1000 * time.Hour}, []string{"ttl: must be from 1s"}},
	}
	c := newCompiler(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			_, err := c.Compile(tt.spec)
			if took := time.Since(begun); took > 2*time.Second*slower {
				t.Errorf("Compile took %s", took)
			}
			if err == nil {
				t.Fatal("Compile = nil, want an error")
			}
			lines := strings.Split(err.Error(), "\n")
			for _, want := range tt.want {
				if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, want) }) {
					t.Errorf("Compile = %q, want a line that begins with %q", lines, want)
				}
			}
		})
	}
	_, err := c.Compile(Spec{Name: "r", To: all, Event: "review"})
	if lesson := fmt.Sprint(err); !strings.Contains(lesson, `'"review"'`) {
		t.Errorf("the error of an unquoted text is %q, and does not teach the quotes", lesson)
	}
}
