package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// A business system is told when it posts too often, or from where it does not;
// where Redis is gone, it may post as often as it likes.
func TestLimitsOfASource(t *testing.T) {
	s := start(t)
	ask := func(method, path, body string, headers ...string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.Collect.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true // leave no connection behind
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		resp.Status = fmt.Sprintf("%d %s", resp.StatusCode, answer)
		return resp
	}
	for name, guard := range map[string]string{"few": `"limit":{"rate":"2/h"}`, "far": `"addresses":["192.0.2.0/24"]`} {
		definition := fmt.Sprintf(`{"verify":"gitlab","secrets":"token",%s,"rules":{"to":{"all":true}}}`, guard)
		if resp := ask(http.MethodPut, "/v1/sources/"+name, definition, "X-API-Key", s.APIKey()); resp.StatusCode != 200 {
			t.Fatalf("the source %s is answered %s", name, resp.Status)
		}
	}
	post := func(source string, n int) *http.Response {
		t.Helper()
		return ask(http.MethodPost, "/v1/webhooks/"+source, fmt.Sprint(n), "X-Gitlab-Token", "token")
	}
	for n, want := range []int{202, 202, 429, 429} {
		resp := post("few", n)
		if resp.StatusCode != want || resp.Header.Get("RateLimit") == "" || (want == 429) != (resp.Header.Get("Retry-After") != "") {
			t.Errorf("webhook %d is answered %s %v, want %d", n, resp.Status, resp.Header, want)
		}
	}
	if resp := post("far", 1); resp.StatusCode != 403 || !strings.Contains(resp.Status, "address_forbidden") {
		t.Errorf("a webhook from here is answered %s, want 403", resp.Status)
	}
	// What Redis counted is gone with Redis.
	if err := s.FlushRedis(t.Context()); err != nil {
		t.Fatal(err)
	}
	if resp := post("few", 9); resp.StatusCode != 202 {
		t.Errorf("after Redis was emptied it is answered %s, want 202", resp.Status)
	}
}
