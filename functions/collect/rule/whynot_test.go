package rule

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestWhyNot(t *testing.T) {
	c, err := NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	in := &Input{Headers: map[string]string{"x-kind": "push"}}
	dec := json.NewDecoder(strings.NewReader(`{"action":"closed","number":7,"labels":["a","b"]}`))
	dec.UseNumber()
	if err := dec.Decode(&in.Body); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ when, want string }{
		"one condition":     {`body.action == "opened"`, `when is false: body.action == "opened"`},
		"the first":         {`body.action == "opened" && body.number == 7`, `when is false, for this is: body.action == "opened"`},
		"the second":        {`body.number == 7 && has(body.pull_request) && body.x.y`, `when is false, for this is: has(body.pull_request)`},
		"the last":          {"body.number == 7 &&\n  body.action   ==\n \"opened\"", `when is false, for this is: body.action == "opened"`},
		"letters before it": {`"äöü€😀" != body.action && body.number == 8`, `when is false, for this is: body.number == 8`},
		"a text with &&":    {`body.action != "a && b" && body.number == 8`, `when is false, for this is: body.number == 8`},
		"within a macro":    {`body.labels.exists(l, l == "a" && l == "b") && body.number == 7`, `when is false, for this is: body.labels.exists(l, l == "a" && l == "b")`},
		"an or around":      {`body.number == 8 && true || body.action == "opened"`, `when is false: body.number == 8 && true || body.action == "opened"`},
		"parentheses":       {`(body.number == 8 && true)`, `when is false: (body.number == 8 && true)`},
		"an error absorbed": {`body.missing == 1 && body.number == 8`, `when is false, for this is: body.number == 8`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := c.Compile(Spec{Name: "r", When: tt.when, To: To{All: "true"}})
			if err != nil {
				t.Fatal(err)
			}
			if m, err := r.Eval(t.Context(), in); m != nil || err != nil {
				t.Fatalf("Eval of %s = %v, %v, want no message", tt.when, m, err)
			}
			if got := c.WhyNot(t.Context(), r, in); got != tt.want {
				t.Errorf("WhyNot of %s\n= %s\nwant %s", tt.when, got, tt.want)
			}
		})
	}
}
