package rule

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"pushcluster/shared/push"
)

// randomValue makes JSON as decoded, of the fields that random rules ask for.
func randomValue(r *rand.Rand, depth int) any {
	if depth == 0 {
		return randomScalar(r)
	}
	switch r.IntN(4) {
	case 0:
		list := make([]any, r.IntN(5))
		for i := range list {
			list[i] = randomValue(r, depth-1)
		}
		return list
	case 1, 2:
		object := make(map[string]any)
		for range r.IntN(5) {
			object[string(rune('a'+r.IntN(5)))] = randomValue(r, depth-1)
		}
		return object
	}
	return randomScalar(r)
}

func randomScalar(r *rand.Rand) any {
	switch r.IntN(8) {
	case 0:
		return nil
	case 1:
		return r.IntN(2) == 0
	case 2:
		return json.Number(fmt.Sprint(r.Int64() - r.Int64()))
	case 3:
		return json.Number(fmt.Sprint(r.NormFloat64()))
	case 4:
		return json.Number(strings.Repeat("9", r.IntN(40)+1))
	case 5:
		return strings.Repeat("é", r.IntN(50))
	}
	return string(rune('a' + r.IntN(26)))
}

// randomExpression makes text that is an expression more often than not; what
// it means is left to chance.
func randomExpression(r *rand.Rand, depth int) string {
	if depth == 0 {
		return []string{"body", "body.a", "body.b.c", "1", "-7", "2u", "1.5", "'x'", "b'y'", "null", "true", "source",
			"headers['x-github-event']", "query", "received_at", "[]", "{}", "body.?a.?b", "x", "optional.none()"}[r.IntN(20)]
	}
	sub := func() string { return randomExpression(r, depth-1) }
	switch r.IntN(14) {
	case 0:
		return "(" + sub() + []string{" + ", " - ", " * ", " / ", " % "}[r.IntN(5)] + sub() + ")"
	case 1:
		return "(" + sub() + []string{" == ", " != ", " < ", " >= ", " in ", " && ", " || "}[r.IntN(7)] + sub() + ")"
	case 2:
		return "[" + sub() + ", " + sub() + "]"
	case 3:
		return "{'k': " + sub() + ", " + sub() + ": 1}"
	case 4:
		return sub() + "." + []string{"map", "filter", "all", "exists", "exists_one"}[r.IntN(5)] + "(x, " + sub() + ")"
	case 5:
		return "cel.bind(x, " + sub() + ", " + sub() + ")"
	case 6:
		return []string{"string", "int", "double", "size", "dyn", "type", "timestamp", "bytes", "optional.of"}[r.IntN(9)] + "(" + sub() + ")"
	case 7:
		return "(" + sub() + " ? " + sub() + " : " + sub() + ")"
	case 8:
		return sub() + "." + string(rune('a'+r.IntN(5)))
	case 9:
		return sub() + "[" + sub() + "]"
	case 10:
		return sub() + ".?a.orValue(" + sub() + ")"
	case 11:
		return sub() + []string{".trim()", ".upperAscii()", ".split('')", ".join()", ".join('-')", ".matches('a*')"}[r.IntN(6)]
	case 12:
		return sub() + ".replace(" + sub() + ", " + sub() + ")"
	}
	return sub() + ".transformMap(k, x, " + sub() + ")"
}

// randomRules compiles n rules, half of them written by chance alone.
func randomRules(t testing.TB, r *rand.Rand, n int) []*Rule {
	c := newCompiler(t)
	var rules []*Rule
	for len(rules) < n {
		spec := Spec{Name: "r", To: To{Users: "dyn(body).?a", All: "true"}, Data: randomExpression(r, 1+r.IntN(3))}
		if r.IntN(2) == 0 {
			spec.When = randomExpression(r, 2)
			spec.To.Users = randomExpression(r, 2)
		}
		if rule, err := c.Compile(spec); err == nil {
			rules = append(rules, rule)
		}
	}
	return rules
}

// TestRandom evaluates 100 random rules on 10,000 random bodies, every pair
// without the race detector, every 40th with it. No pair may panic, take long
// or make what cannot be sent.
func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	rules := randomRules(t, r, 100)
	const bodies = 10_000
	inputs := make([]*Input, bodies)
	for i := range inputs {
		inputs[i] = &Input{Source: "s", Body: randomValue(r, 1+i%4), ReceivedAt: start, Headers: map[string]string{"x-github-event": "push"}}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex // guards what follows
		longest time.Duration
		sent    int
	)
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			slow, made := time.Duration(0), 0
			for i := w; i < bodies; i += workers {
				for k := i / workers % stride; k < len(rules); k += stride {
					begun := time.Now()
					m, err := rules[k].Eval(t.Context(), inputs[i])
					slow = max(slow, time.Since(begun))
					checkOutcome(t, rules[k], inputs[i], m, err)
					if m != nil {
						made++
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			longest, sent = max(longest, slow), sent+made
		})
	}
	wg.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if longest > 2*time.Second*slower {
		t.Errorf("one evaluation took %s", longest)
	}
	if sent == 0 {
		t.Error("not one rule made a message of one body")
	}
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 16<<20 {
		t.Errorf("%d MiB are kept afterwards", kept>>20)
	}
	t.Logf("%d messages, the longest took %s", sent, longest)
}

func checkOutcome(t *testing.T, r *Rule, in *Input, m *Message, err error) {
	var e *Error
	switch {
	case err != nil && (m != nil || !errors.As(err, &e) || e.Reason == "" || strings.Contains(e.Reason, "internal error")):
		t.Errorf("%+v on %v = %v, %v", r.spec, in.Body, m, err)
	case m != nil && (!json.Valid(m.Data) || len(m.Data) > push.MaxData || len(m.To.Users) > MaxRecipients):
		t.Errorf("%+v on %v makes %+v", r.spec, in.Body, m)
	}
}

// FuzzRule compiles a stranger's expression and evaluates it on a stranger's
// body.
func FuzzRule(f *testing.F) {
	f.Add("body.pull_request.requested_reviewers.map(r, string(r.id))", pullRequest)
	f.Add("cel.bind(x, body.a, {'k': [x, x], 1: x}) == body ? body.?b.orValue(1) : body[0]", `{"a":[1,2.5,"x",null]}`)
	f.Add("body.a.join(body.b).split('').map(c, c.upperAscii())", `{"a":["x"],"b":"-"}`)
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		body, err := json.Marshal(randomValue(r, 3))
		if err != nil {
			continue
		}
		f.Add(randomExpression(r, 3), string(body))
	}
	c := newCompiler(f)
	f.Fuzz(func(t *testing.T, expression, body string) {
		var v any
		dec := json.NewDecoder(strings.NewReader(body))
		dec.UseNumber()
		if dec.Decode(&v) != nil {
			return
		}
		begun := time.Now()
		rule, err := c.Compile(Spec{Name: "r", When: expression, To: To{Users: expression, All: "true"}, Event: expression, Data: expression})
		if err != nil {
			rule, err = c.Compile(Spec{Name: "r", To: To{All: "true"}, Data: expression})
		}
		if err == nil {
			in := &Input{Body: v, ReceivedAt: start}
			m, err := rule.Eval(t.Context(), in)
			checkOutcome(t, rule, in, m, err)
		}
		if took := time.Since(begun); took > 3*time.Second*slower {
			t.Fatalf("%q on %q took %s", expression, body, took)
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	c := newCompiler(b)
	for b.Loop() {
		if _, err := c.Compile(exampleSpec()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEval maps a pull request of about 5 KB; "decode" is what reading its
// JSON takes beside that.
func BenchmarkEval(b *testing.B) {
	r, err := newCompiler(b).Compile(exampleSpec())
	if err != nil {
		b.Fatal(err)
	}
	body := strings.Replace(pullRequest, `"labels":[]`, `"labels":["`+strings.Repeat("label ", 800)+`"]`, 1)
	in := inputOf(b, body)
	b.Run("match", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if m, err := r.Eval(b.Context(), in); m == nil || err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("no-match", func(b *testing.B) {
		other := inputOf(b, `{"action":"closed"}`)
		b.ReportAllocs()
		for b.Loop() {
			if m, err := r.Eval(b.Context(), other); m != nil || err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			decode(b, body)
		}
	})
}

func exampleSpec() Spec {
	return Spec{Name: "review", When: `body.action == "opened" && has(body.pull_request)`,
		To: To{Users: "body.pull_request.requested_reviewers.map(r, string(r.id))"}, Event: `"review.requested"`,
		Data:        `{"title": body.pull_request.title, "url": body.pull_request.html_url}`,
		CollapseKey: `"pr-" + string(body.pull_request.id)`, TTL: 72 * time.Hour}
}
