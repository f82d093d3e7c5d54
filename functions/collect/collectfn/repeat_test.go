package collectfn

import (
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
)

func TestIDOfTheSender(t *testing.T) {
	const body = `{"to":{"users":["42"]},"data":1}`
	tests := map[string]struct {
		body, header string
		id           push.MessageID // "" if it is refused
		code         push.Code
	}{
		"field":                   {`{"id":"a","to":{"users":["42"]},"data":1}`, "", "shop/a", ""},
		"bare header":             {body, "a-b_c.1", "shop/a-b_c.1", ""},
		"bare uuid":               {body, "0197f0de-0000-7000-8000-000000000000", "shop/0197f0de-0000-7000-8000-000000000000", ""},
		"quoted header":           {body, ` "a b\"\\,;" `, `shop/a b"\,;`, ""},
		"both, equal":             {`{"id":"a","to":{"users":["42"]},"data":1}`, `"a"`, "shop/a", ""},
		"both, different":         {`{"id":"a","to":{"users":["42"]},"data":1}`, `"b"`, "", push.CodeBadRequest},
		"slash, UTF-8 in field":   {`{"id":"2030/é","to":{"users":["42"]},"data":1}`, "", "shop/2030/é", ""},
		"empty field":             {`{"id":"","to":{"users":["42"]},"data":1}`, "", "", push.CodeInvalidMessage},
		"null field":              {`{"id":null,"to":{"users":["42"]},"data":1}`, "a", "shop/a", ""},
		"long field":              {`{"id":"` + strings.Repeat("x", 256) + `","to":{"users":["42"]},"data":1}`, "", "", push.CodeInvalidMessage},
		"control character":       {`{"id":"a\u0000","to":{"users":["42"]},"data":1}`, "", "", push.CodeInvalidMessage},
		"empty quoted":            {body, `""`, "", push.CodeBadRequest},
		"long header":             {body, strings.Repeat("x", 256), "", push.CodeBadRequest},
		"unclosed":                {body, `"a`, "", push.CodeBadRequest},
		"only a quote":            {body, `"`, "", push.CodeBadRequest},
		"something after":         {body, `"a"b`, "", push.CodeBadRequest},
		"parameter":               {body, `"a";q=1`, "", push.CodeBadRequest},
		"bad escape":              {body, `"a\n"`, "", push.CodeBadRequest},
		"escape at the end":       {body, `"a\`, "", push.CodeBadRequest},
		"list":                    {body, `a, b`, "", push.CodeBadRequest},
		"beyond ASCII":            {body, "é", "", push.CodeBadRequest},
		"beyond ASCII, in quotes": {body, `"é"`, "", push.CodeBadRequest},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			w := r.post(tt.body, "Idempotency-Key", tt.header)
			if tt.id == "" {
				if got := codeOf(w); got != tt.code {
					t.Errorf("answer = %d %s, want %s", w.Code, w.Body, tt.code)
				}
				return
			}
			if id := idOf(t, w); id != tt.id {
				t.Errorf("id = %q, want %q", id, tt.id)
			}
		})
	}
}

func TestRepeat(t *testing.T) {
	first := `{"id":"a","to":{"users":["42","7"]},"data":{"a":1,"b":"é"},"ttl":"1h"}`
	tests := map[string]struct {
		body string
		key  string // X-API-Key
		same bool
	}{
		"letter by letter":   {first, "sesame", true},
		"rotated key":        {first, "sesame2", true},
		"other order, space": {`{ "ttl":"60m", "to":{"users":["7","42","7"]}, "data":{"b":"\u00e9", "a":1}, "id":"a" }`, "sesame", true},
		"other data":         {`{"id":"a","to":{"users":["42","7"]},"data":{"a":2,"b":"é"},"ttl":"1h"}`, "sesame", false},
		"other number":       {`{"id":"a","to":{"users":["42","7"]},"data":{"a":1.0,"b":"é"},"ttl":"1h"}`, "sesame", false},
		"other user":         {`{"id":"a","to":{"users":["42"]},"data":{"a":1,"b":"é"},"ttl":"1h"}`, "sesame", false},
		"other kind of name": {`{"id":"a","to":{"channels":["42","7"]},"data":{"a":1,"b":"é"},"ttl":"1h"}`, "sesame", false},
		"to all":             {`{"id":"a","to":{"users":["42","7"],"all":true},"data":{"a":1,"b":"é"},"ttl":"1h"}`, "sesame", false},
		"other ttl":          {`{"id":"a","to":{"users":["42","7"]},"data":{"a":1,"b":"é"}}`, "sesame", false},
		"other event":        {`{"id":"a","to":{"users":["42","7"]},"data":{"a":1,"b":"é"},"ttl":"1h","event":"e"}`, "sesame", false},
		"other collapse key": {`{"id":"a","to":{"users":["42","7"]},"data":{"a":1,"b":"é"},"ttl":"1h","collapse_key":"e"}`, "sesame", false},
		"other deliver_at":   {`{"id":"a","to":{"users":["42","7"]},"data":{"a":1,"b":"é"},"ttl":"1h","deliver_at":"2030-01-01T00:00:00Z"}`, "sesame", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			id := idOf(t, r.post(first))
			r.handedOff()
			r.set(func() { r.clock = start.Add(10 * time.Minute) })
			w := r.post(tt.body, "X-API-Key", tt.key)
			ids, again := r.handedOff()
			if !tt.same {
				if codeOf(w) != push.CodeIDReused || len(ids) != 0 {
					t.Errorf("answer = %d %s, handed off %v, want %s and nothing", w.Code, w.Body, ids, push.CodeIDReused)
				}
				return
			}
			if got := idOf(t, w); got != id || w.Header().Get(headerReplayed) != "true" {
				t.Errorf("answer = %s %v, want %s with %s: true", w.Body, w.Header(), id, headerReplayed)
			}
			if len(ids) != 1 || ids[0] != id || !again {
				t.Errorf("handed off %v, again %v, want %s again", ids, again, id)
			}
			if m, _ := r.stored(id); !m.ExpiresAt.Equal(start.Add(time.Hour)) {
				t.Errorf("the repeat moved the expiry to %s", m.ExpiresAt)
			}
		})
	}
}

func TestRepeatKeepsTheFirstDates(t *testing.T) {
	r := newRig(t)
	body := `{"id":"a","to":{"all":true},"data":1,"ttl":"1h"}`
	r.post(body)
	r.set(func() { r.clock = start.Add(30 * time.Minute) })
	r.handedOff()
	r.post(body)
	r.post(body)
	for _, req := range r.asked() {
		if m := req.Messages[0]; !m.CreatedAt.Equal(start) || !m.ExpiresAt.Equal(start.Add(time.Hour)) {
			t.Errorf("the repeat was handed off as created %s, expiring %s; want %s and an hour later", m.CreatedAt, m.ExpiresAt, start)
		}
	}
}

func TestSameIDOfAnotherKey(t *testing.T) {
	r := newRig(t)
	a := idOf(t, r.post(`{"id":"a","to":{"all":true},"data":1}`))
	b := idOf(t, r.post(`{"id":"a","to":{"all":true},"data":2}`, "X-API-Key", "", "Authorization", "Bearer other"))
	if a != "shop/a" || b != "crm/a" {
		t.Errorf("ids %s and %s, want shop/a and crm/a", a, b)
	}
}
