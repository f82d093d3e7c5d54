package rule

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// doubled nests f over x n times: doubled("x + x", "'a'", 3) makes a text of 8.
func doubled(operation, x string, n int) string {
	for range n {
		x = fmt.Sprintf("cel.bind(x, %s, %s)", x, operation)
	}
	return x
}

// mapped doubles by a chain of maps, which nests nothing.
func mapped(operation, x string, n int) string {
	return "[" + x + "]" + strings.Repeat(".map(x, "+operation+")", n) + "[0]"
}

// TestHostile evaluates rules that were written to do harm, each on the body
// that helps it most. None may take long or much memory, or make a message.
func TestHostile(t *testing.T) {
	thousand := "[" + strings.Repeat("1,", 999) + "1]"
	long := `"` + strings.Repeat("a", 500_000) + `"`
	many := "[" + strings.Repeat("0,", 400_000) + "0]"
	tests := map[string]struct {
		data, body string
		kind       Kind
	}{
		"cubic loop":                    {"body.all(a, body.all(b, body.all(c, a + b + c > 0)))", thousand, KindCost},
		"loop over a huge body":         {"body.map(x, x + 1)", many, KindCost},
		"text doubled by map":           {mapped("x + x", "'aaaaaaaa'", 24), `{}`, KindCost},
		"text doubled by bind":          {doubled("x + x", "'aaaaaaaa'", 24), `{}`, KindCost},
		"long text doubled":             {"body + body", long, KindCost},
		"bytes doubled":                 {mapped("x + x", "b'aaaaaaaa'", 24), `{}`, KindCost},
		"list doubled by map":           {mapped("x + x", "[1]", 32), `{}`, KindCost},
		"list doubled, then asked":      {"1 in " + mapped("x + x", "[0]", 32), `{}`, KindCost},
		"list doubled, then measured":   {"size(" + mapped("x + x", "[0]", 32) + ")", `{}`, KindCost},
		"empty list doubled":            {"size(" + mapped("x + x", "[]", 32) + ")", `{}`, ""},
		"tree of lists":                 {mapped("dyn([x, x])", "body", 30), long, KindResult},
		"tree of lists of nothing":      {mapped("dyn([x, x])", "[]", 30), `{}`, KindResult},
		"tree of maps":                  {mapped("dyn({'a': x, 'b': x})", "1", 30), `{}`, KindResult},
		"tree of optionals":             {mapped("dyn([optional.of(x), optional.of(x)])", "1", 30), `{}`, KindResult},
		"trees compared":                {"[" + mapped("[x, x]", "body", 24) + "].all(x, x == x)", `{}`, KindCost},
		"trees compared, bound":         {doubled("[x, x]", "body", 20) + " == " + doubled("[x, x]", "body", 20), `{}`, KindCost},
		"maps compared":                 {mapped("dyn({'a': x, 'b': x})", "1", 24) + " != " + mapped("dyn({'a': x, 'b': x})", "1", 24), `{}`, KindCost},
		"tree looked for":               {mapped("[x, x]", "1", 24) + " in [" + mapped("[x, x]", "1", 24) + "]", `{}`, KindCost},
		"huge bodies compared in loops": {"body.all(x, body == body)", many, KindCost},
		"bodies compared in loops":      {"body.all(x, body == body)", "[" + strings.Repeat("0,", 9_000) + "0]", KindCost},
		"replace of nothing":            {"body.replace('', body)", long, KindCost},
		"replace of everything":         {"body.replace('a', body)", long, KindCost},
		"join of a long separator":      {"body.l.join(body.s)", `{"l":[` + strings.Repeat(`"",`, 9000) + `""],"s":` + long + `}`, KindCost},
		"join of too many":              {"body.join('')", "[" + strings.Repeat(`"",`, 300_000) + `""]`, KindCost},
		"join in a loop":                {"body.l.map(x, body.l.map(y, body.s)).map(x, x.join(body.s))", `{"l":[1,2,3,4,5,6,7,8,9,10],"s":` + long + `}`, KindCost},
		"split into letters":            {"body.split('')", long, KindCost},
		"search of the worst case":      {"body.indexOf(body.substring(1) + 'b')", long, KindCost},
		"pattern on a long text":        {"body.matches('(a?){50}a{50}$')", long, KindCost},
		"pattern in a loop":             {"[1,2,3].map(x, body.matches('(a?){30}a{30}b$'))", `"` + strings.Repeat("a", 32_000) + `"`, KindCost},
		"deep body":                     {"body", strings.Repeat("[", 9000) + strings.Repeat("]", 9000), KindResult},
		"deep body compared":            {"body == body", strings.Repeat("[", 9000) + strings.Repeat("]", 9000), ""},
		"deep tree made":                {mapped("dyn([[[[[x]]]]])", "1", 30), `{}`, KindResult},
		"flat body of fields":           {"body", `{` + strings.Repeat(`"a":1,`, 3) + strings.TrimSuffix(fields(40_000), ",") + `}`, KindResult},
		"huge list passed on":           {"[body]", many, KindResult},
		"upper case in a loop":          {"body.l.map(x, body.s.upperAscii())", `{"l":` + thousand + `,"s":` + long + `}`, KindCost},
		"time zones":                    {"body.map(x, received_at.getHours('Europe/Berlin'))", "[" + strings.Repeat("0,", 999) + "0]", KindCost},
		"a division by zero":            {"1 / body", "0", KindType},
		"an overflow":                   {"9223372036854775807 + body", "1", KindType},
		"the smallest by minus one":     {"(body - 9223372036854775807) / -1", "-1", KindType},
	}
	c := newCompiler(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := inputOf(t, tt.body)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begun := time.Now()
			r, err := c.Compile(Spec{Name: "r", To: To{All: "true"}, Data: tt.data})
			if err != nil {
				t.Fatalf("%s is refused outright: %v", tt.data, err)
			}
			compiled := time.Since(begun)
			m, err := r.Eval(t.Context(), in)
			took := time.Since(begun)
			runtime.ReadMemStats(&after)

			var e *Error
			if errors.As(err, &e) && e.Kind == KindTime {
				e.Kind = KindCost // on a busy machine the clock may come first
			}
			if err == nil && (tt.kind != "" || m == nil) || err != nil && (e == nil || e.Kind != tt.kind || e.Field != "data") {
				t.Errorf("Eval = %v, want an error of kind %q", err, tt.kind)
			}
			if e != nil && len(e.Reason) > 400 {
				t.Errorf("the reason is %d bytes long", len(e.Reason))
			}
			if took > 2*time.Second*slower {
				t.Errorf("it took %s, %s of that to compile", took, compiled)
			}
			if made := after.TotalAlloc - before.TotalAlloc; made > 64<<20 {
				t.Errorf("it allocated %d MiB", made>>20)
			}
			t.Logf("%v compile, %v in all, %d KiB: %v", compiled, took, (after.TotalAlloc-before.TotalAlloc)>>10, err)
		})
	}
}

func fields(n int) string {
	var sb strings.Builder
	for i := range n {
		fmt.Fprintf(&sb, `"%d":0,`, i)
	}
	return sb.String()
}

// TestHostileSource compiles what is meant to choke the compiler.
func TestHostileSource(t *testing.T) {
	tests := map[string]string{
		"flatten is not there":     "[[1]].flatten()",
		"a text of quotes":         strings.Repeat("'", 4000),
		"open brackets":            strings.Repeat("[", 4000),
		"minus signs":              strings.Repeat("-", 4000) + "1",
		"nots":                     strings.Repeat("!", 4000) + "true",
		"maps in lists":            strings.Repeat("[{1:", 900) + "1",
		"questions":                strings.Repeat("true ? ", 500) + "1" + strings.Repeat(" : 1", 499),
		"nested macros":            strings.Repeat("[1].map(x, ", 300) + "x" + strings.Repeat(")", 300),
		"macros that double":       strings.Repeat("[1].exists_one(x, [1].exists_one(y, ", 40) + "true" + strings.Repeat("))", 40),
		"binds that nest":          doubled("x + x", "'a'", 200),
		"types that grow":          mapped("[[[[[x]]]]]", "1", 40),
		"types that double":        mapped("{[x]: x}", "1", 40),
		"types that double, bound": doubled("{[x]: x}", "1", 40),
		"types of two variables":   mapped("{'a': x}.transformMap(k, v, [x, v])", "1", 20),
		"types of optionals":       mapped("[optional.of(optional.of(x))]", "1", 40),
		"types that stay":          mapped("dyn({[x]: x})", "1", 40),
		"dots":                     "body" + strings.Repeat(".a", 2000),
		"calls":                    "body" + strings.Repeat(".trim()", 500),
		"NUL":                      "\x00",
		"not UTF-8":                "'\xff\xfe'",
		"an integer of 4000 nines": strings.Repeat("9", 4000),
	}
	c := newCompiler(t)
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			r, err := c.Compile(Spec{Name: "r", To: To{All: "true"}, Data: text})
			compiled := time.Since(begun)
			if err == nil {
				_, err = r.Eval(t.Context(), inputOf(t, `{}`))
			}
			if took := time.Since(begun); took > 2*time.Second*slower {
				t.Errorf("it took %s, %s of that to compile", took, compiled)
			}
			t.Logf("%v: %.150v", compiled, err)
		})
	}
}
