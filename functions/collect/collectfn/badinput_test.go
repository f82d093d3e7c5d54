package collectfn

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"pushcluster/shared/push"
)

// users returns a message to n users.
func users(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"%d"`, i)
	}
	return `{"to":{"users":[` + b.String()[1:] + `]},"data":1}`
}

// TestBadInput has one row for each way to send what cannot be sent.
func TestBadInput(t *testing.T) {
	to := func(to string) string { return `{"to":` + to + `,"data":1}` }
	msg := func(rest string) string { return `{"to":{"users":["42"]},` + rest + `}` }
	long := strings.Repeat("x", 256)
	tests := map[string]struct {
		body   string
		status int
		code   push.Code
		detail string // part of it
	}{
		"empty body":              {"", 400, push.CodeBadJSON, "empty"},
		"not JSON":                {`{"to":`, 400, push.CodeBadJSON, "ends too early"},
		"not JSON, located":       {"{\n\"to\" 1}", 400, push.CodeBadJSON, "line 2, column 6"},
		"two messages in a row":   {msg(`"data":1`) + msg(`"data":2`), 400, push.CodeBadJSON, "something follows"},
		"a number":                {`5`, 400, push.CodeBadJSON, "a message or an array"},
		"null":                    {` null`, 400, push.CodeBadJSON, "a message or an array"},
		"a string, cut off":       {`"x`, 400, push.CodeBadJSON, "ends too early"},
		"array not JSON":          {`[{"to":{"all":true},"data":1},{]`, 400, push.CodeBadJSON, "line 1, column 32"},
		"not UTF-8":               {msg("\"data\":\"\xff\""), 400, push.CodeBadJSON, "UTF-8"},
		"unknown field":           {msg(`"data":1,"recipients":["42"]`), 400, push.CodeUnknownField, `"recipients"`},
		"unknown field in to":     {to(`{"user":"42"}`), 400, push.CodeUnknownField, `"user"`},
		"a field in capitals":     {`{"TO":{"users":["42"]},"data":1}`, 400, push.CodeUnknownField, `"TO"`},
		"data in two spellings":   {msg(`"Data":1,"data":2`), 400, push.CodeUnknownField, `"Data"`},
		"user is a number":        {to(`{"users":[42]}`), 400, push.CodeBadJSON, `"to.users" must be a string, not number`},
		"users is a string":       {to(`{"users":"42"}`), 400, push.CodeBadJSON, `"to.users" must be an array`},
		"all is a string":         {to(`{"all":"yes"}`), 400, push.CodeBadJSON, `"to.all" must be true or false`},
		"nesting bomb":            {msg(`"data":` + strings.Repeat("[", 100_000)), 400, push.CodeBadJSON, "depth"},
		"body over 1 MiB":         {msg(`"data":"` + strings.Repeat("x", MaxBody) + `"`), 413, push.CodeBodyTooLarge, "1048576"},
		"data over 64 KiB":        {msg(`"data":"` + strings.Repeat("x", push.MaxData-1) + `"`), 413, push.CodeDataTooLarge, "65537 bytes"},
		"1,001 messages":          {"[" + strings.Repeat("1,", 1000) + "1]", 413, push.CodeBodyTooLarge, "1001 messages"},
		"no recipient":            {`{"data":1}`, 422, push.CodeInvalidMessage, "addresses nobody"},
		"no recipient, lists":     {to(`{"users":[],"channels":[],"all":false}`), 422, push.CodeInvalidMessage, "addresses nobody"},
		"empty user":              {to(`{"users":["1","2",""]}`), 422, push.CodeInvalidMessage, "to.users[2]: user is empty"},
		"long user":               {to(`{"users":["` + long + `"]}`), 422, push.CodeInvalidMessage, "to.users[0]"},
		"brace in a user":         {to(`{"users":["a{b"]}`), 422, push.CodeInvalidMessage, "to.users[0]"},
		"long channel":            {to(`{"channels":["a","` + long + `"]}`), 422, push.CodeInvalidMessage, "to.channels[1]"},
		"empty channel":           {to(`{"channels":[""]}`), 422, push.CodeInvalidMessage, "to.channels[0]"},
		"star in a channel":       {to(`{"channels":["a*"]}`), 422, push.CodeInvalidMessage, "to.channels[0]"},
		"newline in a channel":    {to(`{"channels":["a\n"]}`), 422, push.CodeInvalidMessage, "to.channels[0]"},
		"personal channel":        {to(`{"channels":["#42"]}`), 422, push.CodeInvalidMessage, "to.channels[0]"},
		"all as a channel":        {to(`{"channels":["all"]}`), 422, push.CodeInvalidMessage, "to.channels[0]"},
		"10,001 users":            {users(10_001), 422, push.CodeInvalidMessage, "10001 recipients"},
		"no data":                 {`{"to":{"users":["42"]}}`, 422, push.CodeInvalidMessage, "data is missing"},
		"data of 101 levels":      {msg(`"data":` + strings.Repeat("[", 101) + strings.Repeat("]", 101)), 422, push.CodeInvalidMessage, "100 levels"},
		"ttl no duration":         {msg(`"data":1,"ttl":"soon"`), 422, push.CodeInvalidMessage, "ttl must be"},
		"ttl empty":               {msg(`"data":1,"ttl":""`), 422, push.CodeInvalidMessage, "ttl must be"},
		"ttl below a second":      {msg(`"data":1,"ttl":"999ms"`), 422, push.CodeInvalidMessage, "ttl must be from"},
		"ttl negative":            {msg(`"data":1,"ttl":"-1h"`), 422, push.CodeInvalidMessage, "ttl must be from"},
		"ttl over 28 days":        {msg(`"data":1,"ttl":"672h0m1s"`), 422, push.CodeInvalidMessage, "ttl must be from"},
		"ttl a number":            {msg(`"data":1,"ttl":30`), 400, push.CodeBadJSON, `"ttl" must be a string`},
		"deliver_at no time":      {msg(`"data":1,"deliver_at":"tomorrow"`), 422, push.CodeInvalidMessage, "deliver_at must be"},
		"deliver_at without zone": {msg(`"data":1,"deliver_at":"2030-02-01T00:00:00"`), 422, push.CodeInvalidMessage, "deliver_at must be"},
		"deliver_at too far":      {msg(`"data":1,"deliver_at":"2030-03-01T00:00:00Z"`), 422, push.CodeInvalidMessage, "ahead"},
		"deliver_at far too far":  {msg(`"data":1,"deliver_at":"9999-12-31T23:59:59Z"`), 422, push.CodeInvalidMessage, "ahead"},
		"long event":              {msg(`"data":1,"event":"` + long + `"`), 422, push.CodeInvalidMessage, "event is 256 bytes"},
		"long collapse key":       {msg(`"data":1,"collapse_key":"` + long + `"`), 422, push.CodeInvalidMessage, "collapse_key is 256 bytes"},
		"newline in event":        {msg(`"data":1,"event":"a\nb"`), 422, push.CodeInvalidMessage, "control character"},
		"newline in collapse_key": {msg(`"data":1,"collapse_key":"a\nb"`), 422, push.CodeInvalidMessage, "control character"},
	}
	r := newRig(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := r.post(tt.body)
			var p push.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
				t.Fatalf("answer = %d %s, want a problem", w.Code, w.Body)
			}
			if w.Code != tt.status || codeOf(w) != tt.code || !strings.Contains(p.Detail, tt.detail) || p.Instance != "/v1/messages" {
				t.Errorf("POST %.200s = %d %s\nwant %d %s with %q", tt.body, w.Code, w.Body, tt.status, tt.code, tt.detail)
			}
			// Each of them answers the same as an item, where it can be one.
			if tt.status != 413 && json.Valid([]byte(tt.body)) && utf8.ValidString(tt.body) && strings.HasPrefix(tt.body, "{") {
				w := r.post("[" + tt.body + "]")
				var items []push.Problem
				if err := json.Unmarshal(w.Body.Bytes(), &items); err != nil || w.Code != 202 || len(items) != 1 || items[0].Code != tt.code || items[0].Status != tt.status {
					t.Errorf("POST [%.200s] = %d %s, want 202 with the problem %s", tt.body, w.Code, w.Body, tt.code)
				}
			}
		})
	}
	if ids, _ := r.handedOff(); len(ids) != 0 || len(r.outbox()) != 0 {
		t.Errorf("handed off %v of what was refused", ids)
	}
	if w := r.post(`{"to":{"all":true},"data":1}`); w.Code != 202 {
		t.Errorf("afterwards a good message = %d %s, want 202", w.Code, w.Body)
	}
}

func TestJustWithinTheLimits(t *testing.T) {
	msg := func(rest string) string { return `{"to":{"users":["42"]},` + rest + `}` }
	long := strings.Repeat("x", 255)
	tests := map[string]string{
		"data of 64 KiB":         msg(`"data":"` + strings.Repeat("x", push.MaxData-2) + `"`),
		"data of 64 KiB, spaced": msg(`"data":[` + strings.Repeat(" ", 100_000) + `"` + strings.Repeat("x", push.MaxData-4) + `"]`),
		"data of 100 levels":     msg(`"data":` + strings.Repeat("[", 100) + strings.Repeat("]", 100)),
		"brackets in a string":   msg(`"data":"\"` + strings.Repeat("[{", 200) + `"`),
		"data null":              msg(`"data":null`),
		"data false":             msg(`"data":false`),
		"number beyond floats":   msg(`"data":1e999999`),
		"field twice":            msg(`"data":1,"data":2`),
		"10,000 users":           users(10_000),
		"1,000 messages":         "[" + strings.Repeat(msg(`"data":1`)+",", 999) + msg(`"data":1`) + "]",
		"no message":             "[]",
		"long names":             `{"to":{"users":["` + long + `"],"channels":["` + long + `"]},"data":1,"event":"` + long + `","collapse_key":"` + long + `","id":"` + long + `"}`,
		"ttl of a second":        msg(`"data":1,"ttl":"1s"`),
		"ttl of 28 days":         msg(`"data":1,"ttl":"672h"`),
		"deliver_at in 28 days":  msg(`"data":1,"ttl":"672h","deliver_at":"2030-02-28T09:30:00Z"`),
		"space around":           "\r\n " + msg(`"data":1`) + "\n",
	}
	for name, body := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			if w := r.post(body); w.Code != 202 || strings.Contains(w.Body.String(), "urn:pushcluster:problem") {
				t.Errorf("POST %.200s = %d %.300s, want 202 without a problem", body, w.Code, w.Body)
			}
		})
	}
}

func TestAPIKeys(t *testing.T) {
	r := newRig(t)
	tests := map[string]struct {
		headers []string
		status  int
	}{
		"key":           {nil, 202},
		"rotated key":   {[]string{"X-API-Key", "sesame2"}, 202},
		"bearer":        {[]string{"X-API-Key", "", "Authorization", "Bearer other"}, 202},
		"none":          {[]string{"X-API-Key", ""}, 401},
		"wrong":         {[]string{"X-API-Key", "sesam"}, 401},
		"name for key":  {[]string{"X-API-Key", "shop"}, 401},
		"pair for key":  {[]string{"X-API-Key", "shop:sesame"}, 401},
		"basic":         {[]string{"X-API-Key", "", "Authorization", "Basic c2hvcDpzZXNhbWU="}, 401},
		"other, bearer": {[]string{"X-API-Key", "", "Authorization", "Bearer nothing"}, 401},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := r.post(`{"to":{"all":true},"data":1}`, tt.headers...)
			if w.Code != tt.status || (w.Code == 401) != (codeOf(w) == push.CodeUnauthorized) {
				t.Errorf("answer = %d %s, want %d", w.Code, w.Body, tt.status)
			}
		})
	}
	if strings.Contains(r.logged.String(), "sesam") {
		t.Errorf("the log tells a key:\n%s", r.logged)
	}
}

func TestOtherRequests(t *testing.T) {
	r := newRig(t)
	broken := httptest.NewRequest("POST", "/v1/messages", errReader{strings.NewReader(`{"to":`)})
	broken.Header.Set("X-API-Key", "sesame")
	if w := r.do(broken); codeOf(w) != push.CodeBadRequest {
		t.Errorf("a body that breaks = %d %s, want %s", w.Code, w.Body, push.CodeBadRequest)
	}
	for request, allow := range map[string]string{ // "": 404
		"PUT /v2/messages": "", "GET //v1/messages/a": "", "GET /v1/messages/a/../b": "",
		"PUT /v1/messages": "POST", "GET /v1/messages": "POST", "DELETE /v1/messages": "POST",
		"POST /v1/parked": "GET, HEAD", "DELETE /v1/parked": "GET, HEAD", "DELETE /v1/callbacks": "GET, HEAD",
		"POST /v1/sources/a/deliveries": "GET, HEAD", "PUT /v1/users/42": "GET, HEAD", "GET /api": "POST",
	} {
		method, path, _ := strings.Cut(request, " ")
		want := push.CodeMethodNotAllowed
		if allow == "" {
			want = push.CodeNotFound
		}
		if w := r.do(httptest.NewRequest(method, path, nil)); codeOf(w) != want || w.Header().Get("Allow") != allow || w.Header().Get("Location") != "" {
			t.Errorf("%s = %d %s (%v), want %s, to allow %q", request, w.Code, w.Body, w.Header(), want, allow)
		}
	}
}
