package page

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pushcluster/shared/push"
)

// A fixed cluster has two nodes and a token for everybody.
type fixed struct{}

func (fixed) NodeURLs() []string { return []string{"http://127.0.0.1:1", "http://127.0.0.1:2"} }

func (fixed) Token(user push.UserID) (string, error) { return "token of " + string(user), nil }

// newPage returns a page in front of a Collect that answers as collect does.
func newPage(t *testing.T, collect http.HandlerFunc) http.Handler {
	t.Helper()
	server := httptest.NewServer(collect)
	t.Cleanup(server.Close)
	h, err := New(Config{Collect: server.URL, APIKey: "the key"}, fixed{}, server.Client(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestWhoMayAsk(t *testing.T) {
	h := newPage(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	tests := map[string]struct {
		method, target, host string
		header               map[string]string
		want                 int
	}{
		"the page by address":            {"GET", "/", "127.0.0.1:8700", nil, 200},
		"the page by name":               {"GET", "/", "localhost:8700", nil, 200},
		"the page by IPv6":               {"GET", "/", "[::1]:8700", nil, 200},
		"a name that points at us":       {"GET", "/session?user=42", "evil.example:8700", nil, 403},
		"a file that is not there":       {"GET", "/nothing", "localhost", nil, 404},
		"alive":                          {"GET", "/healthz", "localhost", nil, 200},
		"no user":                        {"GET", "/session", "localhost", nil, 422},
		"a post by the page itself":      {"POST", "/messages", "localhost:8700", map[string]string{"Sec-Fetch-Site": "same-origin"}, 202},
		"a post without a browser":       {"POST", "/messages", "localhost:8700", nil, 202},
		"a post by another site":         {"POST", "/messages", "localhost:8700", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"a post by another local server": {"POST", "/messages", "localhost:8700", map[string]string{"Origin": "http://localhost:3000"}, 403},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, tt.target, strings.NewReader("{}"))
			r.Host = tt.host
			for k, v := range tt.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("%s %s as %s answers %d %s, want %d", tt.method, tt.target, tt.host, w.Code, w.Body, tt.want)
			}
			if got := w.Header().Get("Content-Security-Policy"); got != policy {
				t.Errorf("Content-Security-Policy = %q, want %q", got, policy)
			}
		})
	}
}

func TestSession(t *testing.T) {
	h := newPage(t, nil)
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/session?user=42", nil)
	r.Host = "localhost"
	h.ServeHTTP(w, r)
	var got struct {
		User, Token string
		Nodes       []string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("session answers %s: %v", w.Body, err)
	}
	if got.User != "42" || got.Token != "token of 42" || len(got.Nodes) != 2 {
		t.Errorf("session answers %s, want user 42, its token and two nodes", w.Body)
	}
	if strings.Contains(w.Body.String(), "the key") {
		t.Errorf("session tells the API key: %s", w.Body)
	}
}

func TestMessages(t *testing.T) {
	const message = `{"to":{"users":["42"]},"data":1}`
	h := newPage(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != message || r.URL.Path != "/v1/messages" || r.Header.Get("X-API-Key") != "the key" {
			t.Errorf("collect is asked %s %s with key %q and body %s", r.Method, r.URL, r.Header.Get("X-API-Key"), body)
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnprocessableEntity)
		io.WriteString(w, `{"code":"invalid_message"}`)
	})
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/messages", strings.NewReader(message))
	r.Host = "localhost"
	h.ServeHTTP(w, r)
	if w.Code != 422 || w.Body.String() != `{"code":"invalid_message"}` || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("messages answers %d %s, want collect's own answer", w.Code, w.Body)
	}
}

func TestMessagesWithoutCollect(t *testing.T) {
	const nowhere = "http://127.0.0.1:1" // a port that nobody is given
	h, err := New(Config{Collect: nowhere, APIKey: "the key"}, fixed{}, http.DefaultClient, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/messages", strings.NewReader("{}"))
	r.Host = "localhost"
	h.ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("messages answers %d %s, want 503", w.Code, w.Body)
	}
}
