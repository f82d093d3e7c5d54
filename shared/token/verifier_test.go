package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
)

func unix(d time.Duration) int64 { return moment.Add(d).Unix() }

func TestVerifyReadsClaims(t *testing.T) {
	v := verifier(t, Config{Keys: keys(t, ":HS256:"+secret)})
	exp := moment.Add(time.Hour)
	tests := map[string]struct {
		claims string
		want   push.Identity
	}{
		"only a user":         {`{"sub":"42"}`, push.Identity{User: "42"}},
		"expiry and id":       {fmt.Sprintf(`{"sub":"42","exp":%d,"jti":"t1"}`, exp.Unix()), push.Identity{User: "42", ExpiresAt: exp, TokenID: "t1"}},
		"exp as a float":      {fmt.Sprintf(`{"sub":"42","exp":%d.5}`, exp.Unix()), push.Identity{User: "42", ExpiresAt: exp.Add(500 * time.Millisecond)}},
		"exp with exponent":   {`{"sub":"42","exp":2e10}`, push.Identity{User: "42", ExpiresAt: time.Unix(2e10, 0).UTC()}},
		"info":                {`{"sub":"42","info":{"name":"A"}}`, push.Identity{User: "42", Info: json.RawMessage(`{"name":"A"}`)}},
		"b64info":             {`{"sub":"42","info":1,"b64info":"eyJhIjoxfQ=="}`, push.Identity{User: "42", Info: json.RawMessage(`{"a":1}`)}},
		"channels":            {`{"sub":"42","channels":["news","room:7","news"]}`, push.Identity{User: "42", Channels: []push.Channel{"news", "room:7"}}},
		"subs":                {`{"sub":"42","channels":["z"],"subs":{"b":{"data":1},"a":{}}}`, push.Identity{User: "42", Channels: []push.Channel{"z", "a", "b"}}},
		"its own channels":    {`{"sub":"42","channels":["#42","all","news"]}`, push.Identity{User: "42", Channels: []push.Channel{"news"}}},
		"topics":              {`{"sub":"42","topics":["a","b:*","all*","*"]}`, push.Identity{User: "42", Topics: []string{"a", "b:*", "all*", "*"}}},
		"null is absent":      {`{"sub":"42","exp":null,"info":null,"channels":null,"subs":null,"aud":null}`, push.Identity{User: "42"}},
		"unknown claims":      {`{"sub":"42","email":"a@example.com","meta":{}}`, push.Identity{User: "42"}},
		"names match by case": {`{"sub":"42","SUB":"43","Exp":1}`, push.Identity{User: "42"}},
		"nbf within leeway":   {fmt.Sprintf(`{"sub":"42","nbf":%d,"iat":%d}`, unix(29*time.Second), unix(29*time.Second)), push.Identity{User: "42", IssuedAt: moment.Add(29 * time.Second)}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := v.Verify(t.Context(), signed(t, "HS256", []byte(secret), nil, tt.claims))
			if err != nil {
				t.Fatalf("Verify(%s) = %v", tt.claims, err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("Verify(%s) = %+v, want %+v", tt.claims, got, tt.want)
			}
		})
	}
}

func TestVerifyRefusesClaims(t *testing.T) {
	v := verifier(t, Config{Keys: keys(t, ":HS256:"+secret), Issuer: "us", Audience: "push"})
	names := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"t%d"`, i)
		}
		return b.String()[1:]
	}
	tests := map[string]struct {
		claims string // besides a good sub, iss and aud, which they may replace
		want   error  // nil: fine
	}{
		"fine":                   {`"jti":"1"`, nil},
		"audience in a list":     {`"aud":["other","push"]`, nil},
		"128 channels":           {`"channels":[` + names(128) + `]`, nil},
		"ends in a second":       {fmt.Sprintf(`"exp":%d`, unix(time.Second)), nil},
		"ends now":               {fmt.Sprintf(`"exp":%d`, unix(0)), ErrExpired},
		"ended long ago":         {`"exp":0`, ErrExpired},
		"expired, wrong issuer":  {`"exp":1,"iss":"them"`, ErrInvalid},
		"expired, bad channel":   {`"exp":1,"channels":["{"]`, ErrInvalid},
		"exp is a string":        {`"exp":"1900000000"`, ErrInvalid},
		"exp before 1970":        {`"exp":-1`, ErrInvalid},
		"exp beyond 9999":        {`"exp":1e300`, ErrInvalid},
		"exp overflows":          {`"exp":1e999`, ErrInvalid},
		"nbf ahead":              {fmt.Sprintf(`"nbf":%d`, unix(31*time.Second)), ErrInvalid},
		"iat ahead":              {fmt.Sprintf(`"iat":%d`, unix(31*time.Second)), ErrInvalid},
		"another issuer":         {`"iss":"them"`, ErrInvalid},
		"no issuer":              {`"iss":null`, ErrInvalid},
		"issuer by prefix":       {`"iss":"us2"`, ErrInvalid},
		"another audience":       {`"aud":"pull"`, ErrInvalid},
		"audiences without ours": {`"aud":["a","b"]`, ErrInvalid},
		"no audience":            {`"aud":[]`, ErrInvalid},
		"audience of numbers":    {`"aud":[1]`, ErrInvalid},
		"sub is a number":        {`"sub":42`, ErrInvalid},
		"sub is empty":           {`"sub":""`, ErrInvalid},
		"sub is null":            {`"sub":null`, ErrInvalid},
		"sub with a brace":       {`"sub":"a}b"`, ErrInvalid},
		"sub with a control":     {`"sub":"a\u0000b"`, ErrInvalid},
		"sub too long":           {`"sub":"` + strings.Repeat("a", 256) + `"`, ErrInvalid},
		"sub of a first half":    {`"sub":"\ud800"`, ErrInvalid},
		"sub of a second half":   {`"sub":"a\\\udc00"`, ErrInvalid},
		"sub of halves reversed": {`"sub":"\udc00\ud83d"`, ErrInvalid},
		"channel of a half":      {`"channels":["\ud83dx"]`, ErrInvalid},
		"topic of a half":        {`"topics":["news\ud83d"]`, ErrInvalid},
		"sub of both halves":     {`"sub":"\\ud83d\ud83d\ude00\u00e9"`, nil},
		"info may be anything":   {`"info":"\ud800"`, nil},
		"sub not UTF-8":          {`"sub":"` + "\xff" + `"`, ErrInvalid},
		"sub 255 bytes":          {`"sub":"` + strings.Repeat("a", 255) + `"`, nil},
		"jti is a number":        {`"jti":7`, ErrInvalid},
		"129 channels":           {`"channels":[` + names(129) + `]`, ErrInvalid},
		"128 and one by subs":    {`"channels":[` + names(128) + `],"subs":{"x":{}}`, ErrInvalid},
		"129 topics":             {`"topics":[` + names(129) + `]`, ErrInvalid},
		"channel of another":     {`"channels":["#43"]`, ErrInvalid},
		"empty channel":          {`"channels":[""]`, ErrInvalid},
		"channel with star":      {`"channels":["news*"]`, ErrInvalid},
		"channels as an object":  {`"channels":{"a":1}`, ErrInvalid},
		"subs as an array":       {`"subs":["a"]`, ErrInvalid},
		"topic of a user":        {`"topics":["#43"]`, ErrInvalid},
		"prefix of users":        {`"topics":["#*"]`, ErrInvalid},
		"star inside a topic":    {`"topics":["a*b*"]`, ErrInvalid},
		"topics as a string":     {`"topics":"*"`, ErrInvalid},
		"b64info not base64":     {`"b64info":"~"`, ErrInvalid},
		"b64info not JSON":       {`"b64info":"//4="`, ErrInvalid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			claims := `{"sub":"42","iss":"us","aud":"push",` + tt.claims + `}`
			id, err := v.Verify(t.Context(), signed(t, "HS256", []byte(secret), nil, claims))
			if !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
				t.Errorf("Verify(%s) = %+v, %v, want error %v", claims, id, err, tt.want)
			}
			if err != nil && !reflect.DeepEqual(id, push.Identity{}) {
				t.Errorf("Verify(%s) = %+v beside an error", claims, id)
			}
		})
	}
}

func TestVerifyRefusesForgeries(t *testing.T) {
	rsaKey, ecKey := pairs()["RS256"], pairs()["ES256"]
	v := verifier(t, Config{Keys: keys(t, strings.Join([]string{
		"hs:HS256:" + secret,
		"rs:RS256:" + oneLine(publicPEM(t, rsaKey)),
		"es:ES256:" + oneLine(publicPEM(t, ecKey)),
		":HS512:" + secret + secret,
	}, ","))})
	good := signed(t, "HS256", []byte(secret), map[string]any{"kid": "hs"}, `{"sub":"42"}`)
	parts := strings.Split(good, ".")
	hs := func(header string) string { // rightly signed with HS256, whatever the header says
		input := unsigned(header, `{"sub":"42"}`, nil)
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(strings.TrimSuffix(input, ".")))
		return input + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	sub := `{"sub":"42"}`
	tests := map[string]struct{ text string }{
		"empty":                        {""},
		"two parts":                    {parts[0] + "." + parts[1]},
		"four parts":                   {good + "."},
		"only dots":                    {".."},
		"no signature":                 {parts[0] + "." + parts[1] + "."},
		"cut signature":                {good[:len(good)-2]},
		"other claims":                 {parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"43"}`)) + "." + parts[2]},
		"line end inside":              {parts[0] + "\n." + parts[1] + "." + parts[2]},
		"space before":                 {" " + good},
		"padded":                       {good + "="},
		"trailing bits":                {good[:len(good)-1] + nextLetter(good[len(good)-1])},
		"too long":                     {signed(t, "HS256", []byte(secret), map[string]any{"kid": "hs"}, `{"sub":"42","x":"`+strings.Repeat("a", push.MaxToken)+`"}`)},
		"none":                         {unsigned(`{"alg":"none","kid":"hs"}`, sub, nil)},
		"none, signed":                 {hs(`{"alg":"none","kid":"hs"}`)},
		"None":                         {hs(`{"alg":"None","kid":"hs"}`)},
		"alg missing":                  {hs(`{"kid":"hs"}`)},
		"alg a number":                 {hs(`{"alg":256,"kid":"hs"}`)},
		"alg unknown":                  {hs(`{"alg":"HS1","kid":"hs"}`)},
		"alg of another key":           {signed(t, "HS512", []byte(secret), map[string]any{"kid": "hs"}, sub)},
		"PS256 with an RS256 key":      {signed(t, "PS256", rsaKey, map[string]any{"kid": "rs"}, sub)},
		"RS384 with an RS256 key":      {signed(t, "RS384", rsaKey, map[string]any{"kid": "rs"}, sub)},
		"HMAC with the public key":     {signed(t, "HS256", []byte(publicPEM(t, rsaKey)), map[string]any{"kid": "rs"}, sub)},
		"HMAC with the EC public key":  {signed(t, "HS256", []byte(publicPEM(t, ecKey)), map[string]any{"kid": "es"}, sub)},
		"kid missing":                  {signed(t, "HS256", []byte(secret), nil, sub)},
		"kid unknown":                  {signed(t, "HS256", []byte(secret), map[string]any{"kid": "no"}, sub)},
		"kid of another key":           {signed(t, "HS256", []byte(secret), map[string]any{"kid": "rs"}, sub)},
		"kid a number":                 {signed(t, "HS256", []byte(secret), map[string]any{"kid": 1}, sub)},
		"kid null":                     {signed(t, "HS512", []byte(secret+secret), map[string]any{"kid": nil}, sub)},
		"kid too long":                 {signed(t, "HS256", []byte(secret), map[string]any{"kid": strings.Repeat("k", 300)}, sub)},
		"crit":                         {signed(t, "HS256", []byte(secret), map[string]any{"kid": "hs", "crit": []string{"b64"}, "b64": false}, sub)},
		"header no object":             {hs(`[]`)},
		"header null":                  {hs(`null`)},
		"claims no object":             {signed(t, "HS256", []byte(secret), map[string]any{"kid": "hs"}, `["42"]`)},
		"claims null":                  {signed(t, "HS256", []byte(secret), map[string]any{"kid": "hs"}, `null`)},
		"zero ECDSA signature":         {unsigned(`{"alg":"ES256","kid":"es"}`, sub, make([]byte, 64))},
		"ECDSA signature in DER":       {unsigned(`{"alg":"ES256","kid":"es"}`, sub, append([]byte{0x30, 6, 2, 1, 1, 2, 1, 1}, make([]byte, 56)...))},
		"key of its own in the header": {unsigned(`{"alg":"RS256","jwk":{"kty":"RSA","n":"AQAB","e":"AQAB"}}`, sub, make([]byte, 256))},
	}
	if _, err := v.Verify(t.Context(), good); err != nil {
		t.Fatalf("the token that the forgeries come from is refused: %v", err)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if id, err := v.Verify(t.Context(), tt.text); !errors.Is(err, ErrInvalid) || errors.Is(err, ErrExpired) || errors.Is(err, ErrUnavailable) {
				t.Errorf("Verify(%.80q) = %+v, %v, want ErrInvalid alone", tt.text, id, err)
			}
		})
	}
}

// nextLetter changes bits of a last base64 letter that carry no data.
func nextLetter(c byte) string { return string(c + 1) }

func TestVerifyRotation(t *testing.T) {
	old, young := strings.Repeat("o", 32), strings.Repeat("y", 32)
	both := verifier(t, Config{Keys: keys(t, "k:HS256:"+young+",k:HS256:"+old+",:HS256:"+old)})
	tests := map[string]struct {
		key  string
		kid  map[string]any
		want error
	}{
		"newest of a kid": {young, map[string]any{"kid": "k"}, nil},
		"oldest of a kid": {old, map[string]any{"kid": "k"}, nil},
		"without kid":     {old, nil, nil},
		"empty kid":       {old, map[string]any{"kid": ""}, nil},
		"newest, no kid":  {young, nil, ErrInvalid},
		"unknown secret":  {secret, map[string]any{"kid": "k"}, ErrInvalid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := both.Verify(t.Context(), signed(t, "HS256", []byte(tt.key), tt.kid, `{"sub":"42"}`))
			if !errors.Is(err, tt.want) {
				t.Errorf("Verify = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestNewVerifierWithoutKeys(t *testing.T) {
	if _, err := NewVerifier(Config{}, http.DefaultClient, atMoment, nil, nil); err == nil {
		t.Error("NewVerifier with no key at all = nil, want an error")
	}
}

func FuzzVerify(f *testing.F) {
	v := verifier(f, Config{Keys: keys(f, "k:HS256:"+secret+",:EdDSA:"+privateDER(f, pairs()["EdDSA"]))})
	good := signed(f, "HS256", []byte(secret), map[string]any{"kid": "k"}, `{"sub":"42"}`)
	f.Add(good)
	f.Add(unsigned(`{"alg":"none"}`, `{"sub":"42"}`, nil))
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := v.Verify(t.Context(), text)
		if err == nil && text != good {
			t.Fatalf("Verify(%q) = %+v, though nobody signed it", text, id)
		}
	})
}

// FuzzClaims reads payloads that are rightly signed, since FuzzVerify cannot
// get past the signature.
func FuzzClaims(f *testing.F) {
	v := verifier(f, Config{Keys: keys(f, ":HS256:"+secret)})
	f.Add([]byte(`{"sub":"42","exp":2e10,"channels":["a"],"subs":{"b":{}},"topics":["c*"],"aud":["x"]}`))
	f.Add([]byte(`{"sub":"42","b64info":"eyJhIjoxfQ=="}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseClaims(raw)
		if err != nil {
			return
		}
		id, err := v.judge(c)
		if err != nil {
			return
		}
		if err := id.User.Check(); err != nil {
			t.Errorf("%q: user %v", raw, err)
		}
		for _, ch := range id.Channels {
			if err := ch.CheckTopic(); err != nil {
				t.Errorf("%q: %v", raw, err)
			}
		}
		b, err := json.Marshal(id)
		if err != nil {
			t.Fatalf("%q gives an identity that cannot be sent: %v", raw, err)
		}
		var back push.Identity
		if err := json.Unmarshal(b, &back); err != nil || back.User != id.User || !back.ExpiresAt.Equal(id.ExpiresAt) {
			t.Errorf("%q: sent as %s, arrives as %+v, %v", raw, b, back, err)
		}
	})
}
