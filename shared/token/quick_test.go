package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
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

// TestForgedIsCheckedOnce counts how often the keys of a token are looked up the
// long way, which ends in a check of its signature: where the quick way has made
// that check, once is enough.
func TestForgedIsCheckedOnce(t *testing.T) {
	key := pairs()["ES256"]
	is := newIssuer(t)
	is.set(set(jwk(t, "k", key, nil)), http.StatusOK)
	v, _ := jwksVerifier(t, is)
	kid := map[string]any{"kid": "k"}
	good := signed(t, "ES256", key, kid, `{"sub":"42"}`)
	forged := good[:strings.LastIndexByte(good, '.')+1] + base64.RawURLEncoding.EncodeToString(make([]byte, 64))
	_, want := v.Verify(t.Context(), forged) // its header is not known yet: the long way
	if !errors.Is(want, ErrInvalid) {
		t.Fatalf("Verify(forged) = %v, want ErrInvalid", want)
	}
	if _, err := v.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		text string
		want int // how often the long way is gone
	}{
		"good":                {good, 0},
		"forged":              {forged, 0},
		"signed by another":   {signed(t, "ES256", other(t), kid, `{"sub":"42"}`), 0},
		"no base64":           {forged[:len(forged)-1], 0}, // refused before any key
		"header not known":    {signed(t, "ES256", other(t), map[string]any{"kid": "k", "x": 1}, `{"sub":"42"}`), 1},
		"header of no key":    {signed(t, "ES256", key, map[string]any{"kid": "other"}, `{"sub":"42"}`), 1},
		"nothing behind dots": {"..", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			long := 0
			_, err := v.verify(tt.text, func(id string) ([]Key, error) {
				long++
				return v.jwks.find(t.Context(), id)
			})
			if long != tt.want || (name == "good") != (err == nil) {
				t.Errorf("verify(%q) looked for the key %d times, and said %v, want %d times", tt.text, long, err, tt.want)
			}
			if name == "forged" && (err == nil || err.Error() != want.Error()) {
				t.Errorf("verify(%q) = %v, but %v while its header was not known", tt.text, err, want)
			}
		})
	}
}

// FuzzKnownHeader holds a verifier that knows a token's header to one that meets
// it for the first time: both say the same of whatever stands behind it.
func FuzzKnownHeader(f *testing.F) {
	cfg := Config{Keys: keys(f, "k:HS256:"+secret+",k:HS256:"+strings.Repeat("x", 32))}
	knows := verifier(f, cfg)
	good := signed(f, "HS256", []byte(secret), map[string]any{"kid": "k"}, `{"sub":"42"}`)
	if _, err := knows.Verify(f.Context(), good); err != nil {
		f.Fatal(err)
	}
	head, rest, _ := strings.Cut(good, ".")
	f.Add(rest)
	f.Add("e30.AAAA")
	f.Fuzz(func(t *testing.T, rest string) {
		text := head + "." + rest
		got, err := knows.Verify(t.Context(), text)
		want, wantErr := verifier(t, cfg).Verify(t.Context(), text)
		if !reflect.DeepEqual(got, want) || errors.Is(err, ErrInvalid) != errors.Is(wantErr, ErrInvalid) || (err == nil) != (wantErr == nil) {
			t.Errorf("Verify(%q) = %+v, %v with a known header, %+v, %v with a new one", text, got, err, want, wantErr)
		}
	})
}

// other returns a key that nobody was told of.
func other(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func BenchmarkForged(b *testing.B) {
	for _, alg := range []string{"HS256", "ES256", "RS256", "EdDSA"} {
		b.Run(alg, func(b *testing.B) {
			var key any = []byte(secret)
			list := ":HS256:" + secret
			if pair, ok := pairs()[alg]; ok {
				key, list = pair, ":"+alg+":"+privateDER(b, pair)
			}
			v := verifier(b, Config{Keys: keys(b, list)})
			good := signed(b, alg, key, nil, `{"sub":"42"}`)
			if _, err := v.Verify(b.Context(), good); err != nil {
				b.Fatal(err)
			}
			head, rest, _ := strings.Cut(good, ".")
			_, sum, _ := strings.Cut(rest, ".")
			forged := head + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"43"}`)) + "." + sum
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), forged); err == nil {
					b.Fatal("a forged token counts")
				}
			}
		})
	}
}
