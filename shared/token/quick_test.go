package token

import (
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// TestQuickClaims says which payloads are read quickly: a change that sends the
// common ones the long way would go unnoticed otherwise.
func TestQuickClaims(t *testing.T) {
	tests := map[string]struct {
		payload string
		quick   bool
	}{
		"a user":              {`{"sub":"42"}`, true},
		"what we mint":        {`{"sub":"42","exp":1900000000,"iat":1763772017.511,"jti":"AF7","iss":"us","aud":["push"]}`, true},
		"with spaces":         {`{"sub": "42", "exp": 1900000000}`, true},
		"lists":               {`{"sub":"42","channels":["a","b"],"topics":["c:*"],"aud":"x"}`, true},
		"empty lists":         {`{"sub":"42","channels":[],"topics":[]}`, true},
		"unknown and plain":   {`{"sub":"42","name":"A","level":7}`, true},
		"the last one counts": {`{"sub":"42","sub":"43"}`, true},
		"no claims":           {`{}`, true},
		"info":                {`{"sub":"42","info":{"a":1}}`, false},
		"subs":                {`{"sub":"42","subs":{"a":{}}}`, false},
		"an escape":           {`{"sub":"4\u0032"}`, false},
		"another alphabet":    {`{"sub":"ä"}`, false},
		"unknown and nested":  {`{"sub":"42","meta":{}}`, false},
		"null":                {`{"sub":"42","exp":null}`, false},
		"an exponent":         {`{"sub":"42","exp":2e10}`, false},
		"negative":            {`{"sub":"42","exp":-1}`, false},
		"beyond 9999":         {`{"sub":"42","exp":999999999999}`, false},
		"a leading zero":      {`{"sub":"42","exp":01}`, false},
		"a trailing comma":    {`{"sub":"42",}`, false},
		"no comma":            {`{"sub":"42""exp":1}`, false},
		"something behind":    {`{"sub":"42"}x`, false},
		"cut short":           {`{"sub":"42"`, false},
		"a number as a name":  {`{1:"42"}`, false},
		"sub is a number":     {`{"sub":42}`, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, ok := quickClaims([]byte(tt.payload)); ok != tt.quick {
				t.Errorf("quickClaims(%s): %v, want %v", tt.payload, ok, tt.quick)
			}
		})
	}
}

// FuzzQuickClaims holds the quick reading to the long one.
func FuzzQuickClaims(f *testing.F) {
	f.Add([]byte(`{"sub":"42","exp":1900000000,"iat":1763772017.511,"jti":"AF7","iss":"us","aud":["push"]}`))
	f.Add([]byte(`{ "sub" : "42", "channels":["a","b"],"topics":[],"aud":"x","n":1.0 }`))
	f.Add([]byte(`{"sub":"42","exp":00.1}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, ok := quickClaims(payload)
		if !ok {
			return
		}
		want, err := parseClaims(payload)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("quickClaims(%q) = %+v, parseClaims = %+v, %v", payload, got, want, err)
		}
	})
}

func TestHeadersAreBounded(t *testing.T) {
	list := make([]string, 3*maxHeaders)
	for i := range list {
		list[i] = "k" + strconv.Itoa(i) + ":HS256:" + secret
	}
	v := verifier(t, Config{Keys: keys(t, strings.Join(list, ","))})
	for i := range list {
		text := signed(t, "HS256", []byte(secret), map[string]any{"kid": "k" + strconv.Itoa(i)}, `{"sub":"42"}`)
		for range 2 {
			if _, err := v.Verify(t.Context(), text); err != nil {
				t.Fatalf("Verify with key %d = %v", i, err)
			}
		}
		if n := len(v.headers.read); n > maxHeaders {
			t.Fatalf("%d headers are remembered, more than %d", n, maxHeaders)
		}
	}
	forged := signed(t, "HS256", []byte(strings.Repeat("x", 32)), map[string]any{"kid": "k0", "x": 1}, `{"sub":"42"}`)
	head, _, _ := strings.Cut(forged, ".")
	if _, err := v.Verify(t.Context(), forged); err == nil {
		t.Error("a forged token counts")
	}
	if _, ok := v.headers.find(head); ok {
		t.Error("the header of a forged token is remembered")
	}
}

// TestKnownHeaderWrongRest spoils tokens whose header is known.
func TestKnownHeaderWrongRest(t *testing.T) {
	v := verifier(t, Config{Keys: keys(t, ":HS256:"+secret)})
	good := signed(t, "HS256", []byte(secret), nil, `{"sub":"42"}`)
	if _, err := v.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(good, ".")
	body, sum, _ := strings.Cut(rest, ".")
	tests := map[string]string{
		"no signature":        head + "." + body + ".",
		"two parts":           head + "." + body,
		"four parts":          good + ".x",
		"another payload":     head + "." + body[:len(body)-1] + "A." + sum,
		"another signature":   head + "." + body + "." + strings.Repeat("A", len(sum)),
		"a longer signature":  good + "AAAA",
		"a part in between":   head + ".." + body + "." + sum,
		"payload not base64":  head + ".A." + sum,
		"signature not whole": good[:len(good)-1],
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			if id, err := v.Verify(t.Context(), text); err == nil {
				t.Errorf("Verify(%q) = %+v, though nobody signed it", text, id)
			}
		})
	}
}
