package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"pushcluster/shared/push"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestWrap(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ok", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "fine") })
	mux.HandleFunc("POST /panic", func(http.ResponseWriter, *http.Request) { panic("boom") })
	mux.HandleFunc("POST /late", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "half an ")
		panic("boom")
	})
	mux.HandleFunc("GET /below/{id...}", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "below") })
	mux.HandleFunc("GET /own404", func(w http.ResponseWriter, r *http.Request) {
		Problem(w, r, push.NewProblem(push.CodeNotFound, "my own words"))
	})
	mux.HandleFunc("GET /upgrade", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Errorf("Hijack: %v", err)
			return
		}
		io.WriteString(conn, "HTTP/1.1 299 Taken\r\nConnection: close\r\nContent-Length: 0\r\n\r\n") // else the client may ask again on it
		conn.Close()
	})
	var logged bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	reg := prometheus.NewPedanticRegistry()
	var handlers sync.WaitGroup // the server does not wait for a handler that hijacked
	wrapped := Wrap("public", mux, log, reg)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handlers.Add(1)
		defer handlers.Done()
		wrapped.ServeHTTP(w, r)
	}))

	tests := map[string]struct {
		method, path string
		status       int // 0: the connection breaks
		code         push.Code
		detail       string
	}{
		"fine":         {"GET", "/ok", 200, "", ""},
		"no such path": {"GET", "/nowhere", 404, push.CodeNotFound, "nothing lives"},
		"not below":    {"GET", "/below", 404, push.CodeNotFound, "nothing lives"},
		"two slashes":  {"GET", "//ok", 404, push.CodeNotFound, "nothing lives"},
		"a dot":        {"GET", "/below/../ok", 404, push.CodeNotFound, "nothing lives"},
		"wrong method": {"DELETE", "/ok", 405, push.CodeMethodNotAllowed, "GET"},
		"own problem":  {"GET", "/own404", 404, push.CodeNotFound, "my own words"},
		"panic":        {"POST", "/panic", 500, push.CodeInternal, "could not be handled"},
		"late panic":   {"POST", "/late", 0, "", ""},
		"hijacked":     {"GET", "/upgrade", 299, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, _ := http.NewRequest(tt.method, server.URL+tt.path+"?token=sesame", nil)
			res, err := server.Client().Do(r)
			var body []byte
			if err == nil {
				defer res.Body.Close()
				body, err = io.ReadAll(res.Body)
			}
			if tt.status == 0 {
				if err == nil {
					t.Fatalf("answer %d %q arrived whole, want a broken connection", res.StatusCode, body)
				}
				return
			}
			if err != nil || res.StatusCode != tt.status {
				t.Fatalf("answer = %v %v, want %d", res, err, tt.status)
			}
			if tt.code == "" {
				return
			}
			var p push.Problem
			if err := json.Unmarshal(body, &p); err != nil || p.Code != tt.code || !strings.Contains(p.Detail, tt.detail) {
				t.Errorf("body = %q (%v), want one problem %s with %q", body, err, tt.code, tt.detail)
			}
			if got := res.Header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("Content-Type = %q", got)
			}
		})
	}
	server.Close()
	handlers.Wait() // now log and metrics are complete
	if strings.Contains(logged.String(), "sesame") {
		t.Errorf("the log tells a query:\n%s", &logged)
	}
	want := `# HELP serve_panics_total Handlers that panicked.
# TYPE serve_panics_total counter
serve_panics_total{port="public"} 2
# HELP serve_requests_total HTTP requests, by route pattern and class of status (2xx, 4xx, hijacked, …).
# TYPE serve_requests_total counter
serve_requests_total{class="2xx",port="public",route="GET /ok"} 1
serve_requests_total{class="2xx",port="public",route="POST /late"} 1
serve_requests_total{class="4xx",port="public",route="GET /own404"} 1
serve_requests_total{class="4xx",port="public",route="other"} 5
serve_requests_total{class="5xx",port="public",route="POST /panic"} 1
serve_requests_total{class="hijacked",port="public",route="GET /upgrade"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "serve_requests_total", "serve_panics_total"); err != nil {
		t.Error(err)
	}
}

func TestWrapTwoPortsInOneRegistry(t *testing.T) {
	reg := prometheus.NewRegistry()
	Wrap("public", http.NewServeMux(), quiet(), reg)
	Wrap("internal", http.NewServeMux(), quiet(), reg) // must not panic
}

func TestHealth(t *testing.T) {
	var away atomic.Bool
	probe := func(ctx context.Context) error {
		if _, ok := ctx.Deadline(); !ok {
			return errors.New("no deadline")
		}
		if away.Load() {
			return errors.New("dial mongodb://user:sesame@host: refused")
		}
		return nil
	}
	var logged bytes.Buffer
	h := Health(slog.New(slog.NewJSONHandler(&logged, nil)), Check{"store", probe}, Check{"redis", probe}, Check{"always", func(context.Context) error { return nil }})
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w
	}
	if w := ask("/readyz"); w.Code != 200 || w.Body.String() != "ok\n" {
		t.Errorf("/readyz = %d %s, want 200 ok", w.Code, w.Body)
	}
	away.Store(true)
	for range 3 {
		w := ask("/readyz")
		if w.Code != 503 || !strings.Contains(w.Body.String(), "not ready: store, redis") || strings.Contains(w.Body.String(), "sesame") {
			t.Errorf("/readyz = %d %s, want a 503 that names store and redis and no secret", w.Code, w.Body)
		}
	}
	if n := strings.Count(logged.String(), "check fails"); n != 2 {
		t.Errorf("the log tells %d failures, want each of the two once:\n%s", n, &logged)
	}
	if w := ask("/healthz"); w.Code != 200 {
		t.Errorf("/healthz = %d while checks fail, want 200", w.Code)
	}
	away.Store(false)
	if w := ask("/readyz"); w.Code != 200 || strings.Count(logged.String(), "recovered") != 2 {
		t.Errorf("/readyz = %d after recovery, log:\n%s", w.Code, &logged)
	}
}
