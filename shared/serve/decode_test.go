package serve

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"pushcluster/shared/push"
)

type thing struct {
	Name  string          `json:"name"`
	Count int             `json:"count"`
	List  []string        `json:"list"`
	Sub   struct{ A int } `json:"sub"`
	Raw   json.RawMessage `json:"raw"`

	Parts []*part         `json:"parts"`
	ByKey map[string]part `json:"by_key"`
	At    time.Time       `json:"at"`
	part                  // its fields count as the thing's
}

type part struct {
	Kind string `json:"kind"`
}

func TestDecode(t *testing.T) {
	tests := map[string]struct {
		body   string
		code   push.Code // "" if it decodes
		detail string    // part of it
	}{
		"whole":               {`{"name":"a","count":1,"list":["x"],"raw":{"k":[1]}}`, "", ""},
		"space around":        {" \n\t{}\r\n ", "", ""},
		"empty":               {"", push.CodeBadJSON, "empty"},
		"only space":          {" \n", push.CodeBadJSON, "empty"},
		"unknown field":       {`{"nam":"a"}`, push.CodeUnknownField, `"nam"`},
		"unknown field deep":  {`{"sub":{"b":1}}`, push.CodeUnknownField, `"b"`},
		"in capitals":         {`{"NAME":"a"}`, push.CodeUnknownField, `no field "NAME"`},
		"in both spellings":   {`{"name":"a","Name":"b"}`, push.CodeUnknownField, `no field "Name"`},
		"a letter that folds": {`{"` + "\u212a" + `ind":"a"}`, push.CodeUnknownField, "no field \"\u212aind\""},
		"capitals deep":       {`{"sub":{"a":1}}`, push.CodeUnknownField, `no field "a"`},
		"capitals in a list":  {`{"parts":[{"kind":"a"}, {"Kind":"b"}]}`, push.CodeUnknownField, `no field "Kind"`},
		"capitals in a map":   {`{"by_key":{"Any":{"kind":"a"},"key":{"Kind":"b"}}}`, push.CodeUnknownField, `no field "Kind"`},
		"embedded":            {`{"Kind":"b"}`, push.CodeUnknownField, `no field "Kind"`},
		"every spelling":      {` { "n\u0061me" : "\\\"{" , "kind":"","parts":[null,{"kind":"b"}],"by_key":{"A":{}},"sub":{"A":1}, "list":["]"],"count":-10,"at":null, "raw":{"Name":[{"NAME":1}]}}`, "", ""},
		"trailing value":      {`{} {}`, push.CodeBadJSON, "line 1, column 4"},
		"trailing garbage":    {"{}\n x", push.CodeBadJSON, "line 2, column 2"},
		"cut off":             {`{"name":"a"`, push.CodeBadJSON, "ends too early"},
		"syntax":              {"{\n  \"name\": a\n}", push.CodeBadJSON, "line 2, column 11"},
		"wrong kind":          {`{"name":5}`, push.CodeBadJSON, `field "name" must be a string, not number`},
		"wrong kind deep":     {`{"sub":{"a":"x"}}`, push.CodeBadJSON, `field "sub.A" must be a number`},
		"array for object":    {`[]`, push.CodeBadJSON, "the value must be an object, not array"},
		"number too large":    {`{"count":1e400}`, push.CodeBadJSON, `field "count"`},
		"not UTF-8":           {"{\"name\":\"\xff\"}", push.CodeBadJSON, "UTF-8"},
		"too deep":            {`{"raw":` + strings.Repeat("[", 20_000), push.CodeBadJSON, "depth"},
		"over the limit":      {`{"name":"` + strings.Repeat("a", 64_000) + `"}`, push.CodeBodyTooLarge, "60000 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for kind, body := range map[string]io.Reader{
				"length known": strings.NewReader(tt.body),
				"chunked":      iotest.OneByteReader(strings.NewReader(tt.body)),
			} {
				r := httptest.NewRequest("POST", "/", body)
				var v thing
				p := Decode(httptest.NewRecorder(), r, 60_000, &v)
				if tt.code == "" {
					if p != nil {
						t.Errorf("%s: Decode(%q) = %v, want no problem", kind, tt.body, p)
					}
					continue
				}
				if p == nil || p.Code != tt.code || !strings.Contains(p.Detail, tt.detail) {
					t.Errorf("%s: Decode(%.80q) = %v, want code %s and %q in the detail", kind, tt.body, p, tt.code, tt.detail)
				}
			}
		})
	}
}

func TestDecodeBodyThatBreaks(t *testing.T) {
	r := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader(`{"na`), iotest.ErrReader(io.ErrUnexpectedEOF)))
	if p := Decode(httptest.NewRecorder(), r, 100, &thing{}); p == nil || p.Code != push.CodeBadRequest {
		t.Errorf("Decode of a broken body = %v, want %s", p, push.CodeBadRequest)
	}
}

func TestProblem(t *testing.T) {
	tests := map[string]struct {
		code    push.Code
		headers http.Header
	}{
		"unavailable":  {push.CodeUnavailable, http.Header{"Retry-After": {"1"}}},
		"too many":     {push.CodeTooManyRequests, http.Header{"Retry-After": {"1"}}},
		"unauthorized": {push.CodeUnauthorized, http.Header{"Www-Authenticate": {"Bearer"}}},
		"bad token":    {push.CodeTokenInvalid, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			p := push.NewProblem(tt.code, "because <%s>", "x")
			Problem(w, httptest.NewRequest("GET", "/v1/a%2Fb?token=secret", nil), p)
			var got push.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatalf("answer %q: %v", w.Body, err)
			}
			if got.Instance != "/v1/a%2Fb" || got.Code != tt.code || got.Status != w.Code || got.Detail != "because <x>" {
				t.Errorf("answer = %d %s, want code %s at /v1/a%%2Fb", w.Code, w.Body, tt.code)
			}
			if p.Instance != "" {
				t.Errorf("Problem changed its argument: %+v", p)
			}
			if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("Content-Type = %q, want application/problem+json", ct)
			}
			for k, want := range tt.headers {
				if got := w.Header()[k]; len(got) != 1 || got[0] != want[0] {
					t.Errorf("header %s = %q, want %q", k, got, want)
				}
			}
		})
	}
}

func TestJSONThatCannotBeEncoded(t *testing.T) {
	w := httptest.NewRecorder()
	JSON(w, 200, make(chan int))
	if w.Code != 500 || !strings.Contains(w.Body.String(), `"internal"`) {
		t.Errorf("JSON(chan) answered %d %s, want a 500 problem", w.Code, w.Body)
	}
}

func FuzzDecodeBytes(f *testing.F) {
	for _, s := range []string{`{"name":"a","count":1}`, `{"x":1}`, `{} 1`, `{"name":5}`, "", "[", "{\"name\":\"\xff\"}", `{"sub":{"A":-0.0}}`, "\ufeff{}",
		`{"parts":[{"kind":"\\\""},null],"by_key":{"K":{"kind":""}},"raw":[{"Name":1}]}`, `{"sub":{"a":1},"Sub":{}}`, `{"n\u0061me":"a","At":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var v thing
		p := DecodeBytes(body, &v)
		if p == nil {
			if !json.Valid(body) || !utf8.Valid(body) {
				t.Fatalf("DecodeBytes(%q) took what is not JSON in UTF-8", body)
			}
			if !spelled(json.NewDecoder(bytes.NewReader(body)), thingNames) {
				t.Fatalf("DecodeBytes(%q) took a name that is spelled otherwise", body)
			}
			return
		}
		if p.Status != 400 || !utf8.ValidString(p.Detail) || len(p.Detail) > 1000 {
			t.Fatalf("DecodeBytes(%q) = %+v, want a 400 with a short detail", body, p)
		}
		if json.Valid(body) && utf8.Valid(body) {
			var strict thing
			dec := json.NewDecoder(bytes.NewReader(body))
			dec.DisallowUnknownFields()
			if dec.Decode(&strict) == nil && spelled(json.NewDecoder(bytes.NewReader(body)), thingNames) {
				t.Fatalf("DecodeBytes(%q) = %v, though encoding/json takes it", body, p)
			}
		}
	})
}

// names are those that an object may have, each with those below it; "*" is any
// name, and nil has whatever it likes.
type names map[string]names

var thingNames = names{
	"name": nil, "count": nil, "list": nil, "raw": nil, "at": nil, "kind": nil,
	"sub": {"A": nil}, "parts": {"kind": nil}, "by_key": {"*": {"kind": nil}},
}

// spelled reports whether the next value has those names alone. What is in an
// array has those of the array.
func spelled(dec *json.Decoder, of names) bool {
	dec.UseNumber() // one may be too large for a float
	first, err := dec.Token()
	if err != nil {
		return false
	}
	good := true
	switch first {
	case json.Delim('['):
		for dec.More() {
			good = spelled(dec, of) && good
		}
	case json.Delim('{'):
		for dec.More() {
			name, _ := dec.Token()
			below, ok := of[name.(string)]
			if any, some := of["*"]; some {
				below, ok = any, true
			}
			good = spelled(dec, below) && good && (ok || of == nil)
		}
	default:
		return true
	}
	dec.Token() // the end
	return good
}
