package authfn

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/token"
)

func TestMintThenVerify(t *testing.T) {
	a := hmacAuth(t)
	tests := map[string]struct {
		body   string
		header http.Header
		ttl    time.Duration
	}{
		"user alone":     {`{"user":"42"}`, http.Header{"X-Api-Key": {"key-of-the-shop"}}, time.Hour},
		"everything":     {`{"user":"42","ttl":"90m","channels":["news"],"topics":["room:*","a"],"info":{"a":1}}`, http.Header{"X-Api-Key": {"key-of-the-shop"}}, 90 * time.Minute},
		"bearer":         {`{"user":"42","ttl":"720h"}`, http.Header{"Authorization": {"Bearer its-next-key"}}, 720 * time.Hour},
		"nulls":          {`{"user":"42","channels":null,"topics":null,"info":null}`, http.Header{"X-Api-Key": {"its-next-key"}}, time.Hour},
		"another script": {`{"user":"ユーザー","ttl":"1s"}`, http.Header{"X-Api-Key": {"its-next-key"}}, time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			resp, body := post(t, http.DefaultClient, a.url+"/v1/tokens", tt.body, tt.header)
			var got mintAnswer
			if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != http.StatusCreated {
				t.Fatalf("answer %d %s", resp.StatusCode, body)
			}
			if want := a.now.Add(tt.ttl); !got.ExpiresAt.Equal(want) {
				t.Errorf("expires_at %s, want %s", got.ExpiresAt, want)
			}
			if resp, body = post(t, a.signed, a.url+"/v1/auth/verify", `{"token":"`+got.Token+`"}`, nil); resp.StatusCode != 200 {
				t.Errorf("the minted token gets %d %s", resp.StatusCode, body)
			}
		})
	}
}

func TestMintRefuses(t *testing.T) {
	a := hmacAuth(t)
	key := http.Header{"X-Api-Key": {"key-of-the-shop"}}
	many := strings.TrimSuffix(strings.Repeat(`"t",`, 129), ",")
	tests := map[string]struct {
		body   string
		header http.Header
		status int
		code   push.Code
		detail string
	}{
		"no key":           {`{"user":"42"}`, nil, 401, push.CodeUnauthorized, ""},
		"wrong key":        {`{"user":"42"}`, http.Header{"X-Api-Key": {"key-of-the-shoq"}}, 401, push.CodeUnauthorized, ""},
		"name for the key": {`{"user":"42"}`, http.Header{"X-Api-Key": {"shop"}}, 401, push.CodeUnauthorized, ""},
		"empty bearer":     {`{"user":"42"}`, http.Header{"Authorization": {"Bearer "}}, 401, push.CodeUnauthorized, ""},
		"basic":            {`{"user":"42"}`, http.Header{"Authorization": {"Basic key-of-the-shop"}}, 401, push.CodeUnauthorized, ""},
		"not JSON":         {`user=42`, key, 400, push.CodeBadJSON, ""},
		"array":            {`[{"user":"42"}]`, key, 400, push.CodeBadJSON, ""},
		"unknown field":    {`{"user":"42","sub":"43"}`, key, 400, push.CodeUnknownField, "sub"},
		"user a number":    {`{"user":42}`, key, 400, push.CodeBadJSON, "user"},
		"ttl a number":     {`{"user":"42","ttl":60}`, key, 400, push.CodeBadJSON, "ttl"},
		"no user":          {`{}`, key, 422, push.CodeInvalidValue, "user"},
		"user with brace":  {`{"user":"a{b"}`, key, 422, push.CodeInvalidValue, "user"},
		"ttl no duration":  {`{"user":"42","ttl":"soon"}`, key, 422, push.CodeInvalidValue, "ttl"},
		"ttl zero":         {`{"user":"42","ttl":"0s"}`, key, 422, push.CodeInvalidValue, "ttl"},
		"ttl negative":     {`{"user":"42","ttl":"-1h"}`, key, 422, push.CodeInvalidValue, "ttl"},
		"ttl over 30 days": {`{"user":"42","ttl":"721h"}`, key, 422, push.CodeInvalidValue, "ttl"},
		"bad channel":      {`{"user":"42","channels":["a","b*"]}`, key, 422, push.CodeInvalidValue, "channels[1]"},
		"bad topic":        {`{"user":"42","topics":["#43"]}`, key, 422, push.CodeInvalidValue, "topics[0]"},
		"many topics":      {`{"user":"42","topics":[` + many + `]}`, key, 422, push.CodeInvalidValue, "129 topics"},
		"half a user":      {`{"user":"\ud800"}`, key, 422, push.CodeInvalidValue, "half a character"},
		"half a channel":   {`{"user":"42","channels":["a","\udc00"]}`, key, 422, push.CodeInvalidValue, "half a character"},
		"half a topic":     {`{"user":"42","topics":["room:\ud83d*"]}`, key, 422, push.CodeInvalidValue, "half a character"},
		"info too large":   {fmt.Sprintf(`{"user":"42","info":"%s"}`, strings.Repeat("a", push.MaxToken)), key, 422, push.CodeInvalidValue, "bytes long"},
		"body too large":   {`{"user":"` + strings.Repeat("a", maxMintBody) + `"}`, key, 413, push.CodeBodyTooLarge, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			resp, body := post(t, http.DefaultClient, a.url+"/v1/tokens", tt.body, tt.header)
			wantProblem(t, resp, body, tt.status, tt.code, tt.detail)
		})
	}
}

func TestMintWithoutAKeyThatSigns(t *testing.T) {
	a := newAuth(t, token.Config{Keys: parseKeys(t, "a:EdDSA:MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=")})
	resp, body := post(t, http.DefaultClient, a.url+"/v1/tokens", `{"user":"42"}`, http.Header{"X-Api-Key": {"key-of-the-shop"}})
	wantProblem(t, resp, body, 404, push.CodeNotFound, "TOKEN_KEYS")
}

func FuzzMintRequest(f *testing.F) {
	f.Add([]byte(`{"user":"42","ttl":"90m","channels":["news"],"topics":["room:*"],"info":{"a":1}}`))
	f.Add([]byte(`{"user":"42","info":"<>&"}`))
	keys, err := token.ParseKeys(":HS256:" + tokenSecret)
	if err != nil {
		f.Fatal(err)
	}
	cfg := token.Config{Keys: keys}
	minter, err := token.NewMinter(cfg, time.Now)
	if err != nil {
		f.Fatal(err)
	}
	verifier, err := token.NewVerifier(cfg, http.DefaultClient, time.Now, nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var req mintRequest
		if serve.DecodeBytes(body, &req) != nil {
			return
		}
		g, p := req.grant()
		if p != nil {
			return
		}
		text, _, err := minter.Mint(g)
		if err != nil {
			return
		}
		if id, err := verifier.Verify(t.Context(), text); err != nil || id.User != req.User {
			t.Errorf("%q mints a token that says %+v, %v", body, id, err)
		}
	})
}
