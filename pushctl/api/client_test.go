package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/shared/push"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answering starts a server for t that answers every request with answer, and
// returns a client of it and a function that tells the last request.
func answering(t *testing.T, answer http.HandlerFunc) (*Client, func() *http.Request) {
	t.Helper()
	var last *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last = r
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	c, err := New(Config{Collect: server.URL + "/", Auth: server.URL, Key: "sesame", Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, func() *http.Request { return last }
}

func TestRequests(t *testing.T) {
	c, last := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"id":"i","parked":[],"user":"u","closed":0,"name":"s","token":"t"}`))
	})
	const odd = "a/b c?d#e%ü"
	const escaped = "a%2Fb%20c%3Fd%23e%25%C3%BC"
	tests := map[string]struct {
		do   func(context.Context) error
		want string
	}{
		"message":            {func(ctx context.Context) error { _, err := c.Message(ctx, odd, ""); return err }, "GET /v1/messages/" + escaped},
		"next page":          {func(ctx context.Context) error { _, err := c.Message(ctx, "a", "n=&"); return err }, "GET /v1/messages/a?next=n%3D%26"},
		"a delivery of dots": {func(ctx context.Context) error { _, err := c.Delivery(ctx, ".", ".."); return err }, "GET /v1/sources/%2E/deliveries/%2E%2E"},
		"cancel":             {func(ctx context.Context) error { _, err := c.Cancel(ctx, odd); return err }, "DELETE /v1/messages/" + escaped},
		"parked":             {func(ctx context.Context) error { _, err := c.Parked(ctx, ""); return err }, "GET /v1/parked"},
		"replay":             {func(ctx context.Context) error { _, err := c.ReplayParked(ctx, odd); return err }, "POST /v1/parked/" + escaped + "/replay"},
		"discard":            {func(ctx context.Context) error { _, err := c.DiscardParked(ctx, odd); return err }, "DELETE /v1/parked/" + escaped},
		"user":               {func(ctx context.Context) error { _, err := c.User(ctx, odd); return err }, "GET /v1/users/" + escaped},
		"kick":               {func(ctx context.Context) error { _, err := c.Kick(ctx, odd, "d"); return err }, "DELETE /v1/users/" + escaped + "/connections?device=d"},
		"source":             {func(ctx context.Context) error { _, err := c.Source(ctx, odd); return err }, "GET /v1/sources/" + escaped},
		"token":              {func(ctx context.Context) error { _, err := c.Token(ctx, Grant{User: odd}); return err }, "POST /v1/tokens"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := tt.do(t.Context()); err != nil {
				t.Fatal(err)
			}
			if r := last(); r.Method+" "+r.RequestURI != tt.want || r.Header.Get("X-API-Key") != "sesame" {
				t.Errorf("asked %s %s with the key %q, want %s", r.Method, r.RequestURI, r.Header.Get("X-API-Key"), tt.want)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	const problem = `{"type":"x","title":"Away","status":503,"detail":"the store","code":"unavailable"}`
	write := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(status)
			w.Write([]byte(body))
		}
	}
	tests := map[string]struct {
		answer    http.HandlerFunc
		code      push.Code
		status    int
		temporary bool
		text      string
	}{
		"a problem":         {write(503, problem), push.CodeUnavailable, 503, true, "Collect refused: Away (unavailable)"},
		"for good":          {write(409, strings.ReplaceAll(problem, "unavailable", "conflict")), push.CodeConflict, 409, false, "Collect refused"},
		"somebody else's":   {write(502, "<html>"), "", 502, true, "status 502, which is no answer of pushcluster"},
		"success elsewhere": {write(200, "<html>"), "", 200, false, "status 200, which is no answer of pushcluster"},
		"an empty success":  {write(200, ""), "", 200, false, "status 200"},
		"a redirect":        {write(302, ""), "", 302, false, "status 302"},
		"nobody":            {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "", 0, true, "cannot be reached: EOF"},
		"half an answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			w.Write([]byte("{"))
		}, "", 0, true, "cannot be reached"},
		"a list, not object": {write(200, "[]"), "", 200, false, "status 200"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, _ := answering(t, tt.answer)
			_, err := c.User(t.Context(), "42")
			fault, ok := errors.AsType[*Error](err)
			if !ok || fault.Status != tt.status || fault.Temporary() != tt.temporary || !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("User = %v (%+v), want status %d, temporary %v, %q", err, fault, tt.status, tt.temporary, tt.text)
			}
			if (fault.Problem != nil) != (tt.code != "") || (fault.Problem != nil && fault.Problem.Code != tt.code) {
				t.Errorf("problem %+v, want %q", fault.Problem, tt.code)
			}
			if tt.code != "" && fault.Retry != 3*time.Second {
				t.Errorf("retry after %s", fault.Retry)
			}
		})
	}
	t.Run("no URL", func(t *testing.T) {
		c, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Nodes(t.Context()); !errors.Is(err, ErrUnconfigured) {
			t.Errorf("Nodes = %v, want ErrUnconfigured", err)
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c, _ := answering(t, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
		if _, err := c.Nodes(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Nodes = %v, want Canceled", err)
		}
	})
	t.Run("too slow on its way", func(t *testing.T) {
		c, _ := answering(t, func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte("{"))
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		c.cfg.Timeout = 100 * time.Millisecond
		if _, err := c.Nodes(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer within 100ms") {
			t.Errorf("Nodes = %v", err)
		}
	})
	t.Run("too slow", func(t *testing.T) {
		c, _ := answering(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		c.cfg.Timeout = 10 * time.Millisecond
		if _, err := c.Nodes(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer within 10ms") {
			t.Errorf("Nodes = %v", err)
		}
	})
}

// TestSaysNothing: what anything before Collect answers instead of it is no
// success.
func TestSaysNothing(t *testing.T) {
	tests := map[string]struct {
		do     func(context.Context, *Client) error
		status int
		answer string // that says that it is done
	}{
		"send": {func(ctx context.Context, c *Client) error { _, err := c.Send(ctx, Message{}); return err }, 202, `{"id":"k/1"}`},
		"send all": {func(ctx context.Context, c *Client) error { _, err := c.SendAll(ctx, nil); return err }, 202,
			`[{"id":"k/1"},{"code":"bad_json","detail":"x"}]`},
		"message":       {func(ctx context.Context, c *Client) error { _, err := c.Message(ctx, "i", ""); return err }, 200, `{"id":"k/1"}`},
		"cancel":        {func(ctx context.Context, c *Client) error { _, err := c.Cancel(ctx, "i"); return err }, 200, `{"id":"k/1"}`},
		"parked":        {func(ctx context.Context, c *Client) error { _, err := c.Parked(ctx, ""); return err }, 200, `{"parked":[]}`},
		"replay parked": {func(ctx context.Context, c *Client) error { _, err := c.ReplayParked(ctx, "i"); return err }, 202, `{"id":"k/1"}`},
		"discard":       {func(ctx context.Context, c *Client) error { _, err := c.DiscardParked(ctx, "i"); return err }, 200, `{"id":"k/1"}`},
		"user":          {func(ctx context.Context, c *Client) error { _, err := c.User(ctx, "u"); return err }, 200, `{"user":"u"}`},
		"kick":          {func(ctx context.Context, c *Client) error { _, err := c.Kick(ctx, "u", ""); return err }, 200, `{"closed":0}`},
		"revoke":        {func(ctx context.Context, c *Client) error { _, err := c.Revoke(ctx, Revocation{}); return err }, 200, `{"closed":0}`},
		"nodes":         {func(ctx context.Context, c *Client) error { _, err := c.Nodes(ctx); return err }, 200, `{"nodes":[]}`},
		"token":         {func(ctx context.Context, c *Client) error { _, err := c.Token(ctx, Grant{}); return err }, 201, `{"token":"t"}`},
		"sources":       {func(ctx context.Context, c *Client) error { _, err := c.Sources(ctx); return err }, 200, `{"sources":[]}`},
		"source":        {func(ctx context.Context, c *Client) error { _, err := c.Source(ctx, "s"); return err }, 200, `{"name":"s"}`},
		"put":           {func(ctx context.Context, c *Client) error { _, err := c.PutSource(ctx, "s", []byte("x")); return err }, 200, `{"name":"s"}`},
		"remove":        {func(ctx context.Context, c *Client) error { return c.RemoveSource(ctx, "s") }, 204, ""},
		"deliveries":    {func(ctx context.Context, c *Client) error { _, err := c.Deliveries(ctx, DeliveriesQuery{}); return err }, 200, `{"deliveries":[]}`},
		"delivery":      {func(ctx context.Context, c *Client) error { _, err := c.Delivery(ctx, "s", "i"); return err }, 200, `{"id":"i"}`},
		"replay one": {func(ctx context.Context, c *Client) error {
			_, err := c.ReplayDelivery(ctx, "s", "i", false)
			return err
		}, 202, `{"delivery":"i"}`},
		"replay": {func(ctx context.Context, c *Client) error {
			_, err := c.Replay(ctx, "s", Range{}, untold[Replayed])
			return err
		}, 200, `{"summary":{}}`},
		"dry run": {func(ctx context.Context, c *Client) error {
			_, err := c.DryRun(ctx, "s", Range{}, untold[DryRun])
			return err
		}, 200, `{"summary":{}}`},
		"callbacks":        {func(ctx context.Context, c *Client) error { _, err := c.Callbacks(ctx, ""); return err }, 200, `{"callbacks":[]}`},
		"replay callback":  {func(ctx context.Context, c *Client) error { _, err := c.ReplayCallback(ctx, "i"); return err }, 204, ""},
		"discard callback": {func(ctx context.Context, c *Client) error { _, err := c.DiscardCallback(ctx, "i"); return err }, 204, ""},
	}
	foreign := map[string]string{
		"nothing": "", "null": "null", "an empty object": "{}", "a page": "<html>", "another's": `{"status":"ok"}`,
		"a list of nothing": `[{}]`, "null fields": `{"id":null,"user":"","closed":null}`,
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			status, body := tt.status, tt.answer
			c, _ := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				w.Write([]byte(body))
			})
			if err := tt.do(t.Context(), c); err != nil {
				t.Errorf("answered with %d %q = %v", status, body, err)
			}
			status = http.StatusOK
			for what, answer := range foreign {
				body = answer
				if err := tt.do(t.Context(), c); err == nil {
					t.Errorf("answered with %s, %q, it is taken for done", what, body)
				}
			}
		})
	}
}

// untold takes what a list has without looking.
func untold[T any](Item[T]) error { return nil }

func TestReady(t *testing.T) {
	tests := map[string]struct {
		status int
		body   string
		ready  bool
		reason string
	}{
		"ready":       {200, "ok", true, ""},
		"not ready":   {503, `{"code":"unavailable","detail":"not ready: redis"}`, false, "not ready: redis"},
		"not a probe": {404, "", false, "404 Not Found"},
		"a web page":  {200, "<html>", false, "answered by something else than pushcluster"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, last := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				w.Write([]byte(tt.body))
			})
			h := c.Ready(t.Context(), "collect", c.cfg.Collect)
			if h.Ready != tt.ready || h.Reason != tt.reason || h.Service != "collect" {
				t.Errorf("Ready = %+v, want %v %q", h, tt.ready, tt.reason)
			}
			if last().Header.Get("X-API-Key") != "" {
				t.Error("the key was sent to where it is not needed")
			}
		})
	}
}

func TestNew(t *testing.T) {
	tests := map[string]struct {
		url string
		ok  bool
	}{
		"plain":     {"http://127.0.0.1:8702", true},
		"with path": {"https://example.com/push/", true},
		"no scheme": {"127.0.0.1:8702", false},
		"another":   {"ftp://example.com", false},
		"a query":   {"http://example.com/?a=b", false},
		"no host":   {"http://", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := New(Config{Collect: tt.url}); (err == nil) != tt.ok {
				t.Errorf("New of %q: %v, want ok %v", tt.url, err, tt.ok)
			}
		})
	}
}

// FuzzDecodeProblem reads what anything between here and Collect may answer.
func FuzzDecodeProblem(f *testing.F) {
	f.Add([]byte(`{"code":"unavailable","detail":"x","status":503}`))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if p := decodeProblem(raw); p != nil && p.Code == "" {
			t.Errorf("decodeProblem(%q) has no code", raw)
		}
	})
}
