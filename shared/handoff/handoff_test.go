package handoff

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/shared/handoff/handofftest"
	"pushcluster/shared/push"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func keys(t testing.TB) signature.Keys {
	t.Helper()
	k, err := signature.ParseKeys([]string{"a signing secret for the tests"})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A dispatch is a real HTTP server that verifies signatures, keeps what it was
// asked and lets the test say what it makes of it.
type dispatch struct {
	*httptest.Server
	unsigned http.Handler // the same, without a check of signatures
	mu       sync.Mutex   // guards what follows
	requests []push.DispatchRequest
}

func newDispatch(t testing.TB, answer func(w http.ResponseWriter, r *http.Request, req push.DispatchRequest)) *dispatch {
	d := &dispatch{}
	d.unsigned = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req push.DispatchRequest
		if p := serve.Decode(w, r, 8<<20, &req); p != nil {
			serve.Problem(w, r, p)
			return
		}
		d.mu.Lock()
		d.requests = append(d.requests, req)
		d.mu.Unlock()
		answer(w, r, req)
	})
	mux := http.NewServeMux()
	mux.Handle("POST /v1/dispatch", signature.Require(signature.NewVerifier(signature.VerifierConfig{}, keys(t)), 8<<20, d.unsigned))
	d.Server = httptest.NewServer(mux)
	t.Cleanup(d.Close)
	return d
}

func confirmAll(w http.ResponseWriter, _ *http.Request, req push.DispatchRequest) {
	var a push.DispatchAnswer
	for _, m := range req.Messages {
		a.Results = append(a.Results, push.DispatchResult{ID: m.ID})
	}
	serve.JSON(w, 200, a)
}

func newClient(t testing.TB, url string, cfg Config) *Client {
	t.Helper()
	c, err := New(url, cfg, signature.NewSigner(keys(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// take returns the requests since the last call.
func (d *dispatch) take() []push.DispatchRequest {
	d.mu.Lock()
	defer d.mu.Unlock()
	got := d.requests
	d.requests = nil
	return got
}

func messages(n int, data string) []push.Message { return handofftest.Messages("", n, data) }

func TestNew(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	tests := map[string]struct{ url, err string }{
		"http":          {"http://127.0.0.1:8703", ""},
		"https, slash":  {"https://dispatch.example/base/", ""},
		"lambda":        {"lambda://dispatch", ""},
		"lambda, path":  {"lambda://dispatch/x", "must be lambda://FUNCTION"},
		"sqs":           {"sqs://Queue_1-x", ""},
		"sqs, FIFO":     {"sqs://queue.fifo", "must be sqs://QUEUE"},
		"sqs, port":     {"sqs://queue:1", "must be sqs://QUEUE"},
		"no scheme":     {"127.0.0.1:8703", "cannot be parsed; it is http://HOST:PORT, lambda://FUNCTION or sqs://QUEUE"},
		"other scheme":  {"ftp://x", `"ftp" is not known`},
		"empty":         {"", `"" is not known`},
		"no host":       {"http:///x", "must be http://HOST:PORT"},
		"with password": {"http://u:sesame@h", "must be http://HOST:PORT"},
		"broken":        {"http://u:sesame@h:%zz", "cannot be parsed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := New(tt.url, Config{}, signature.NewSigner(keys(t)))
			if (err != nil) != (tt.err != "") || (err != nil && (!strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "sesame"))) {
				t.Errorf("New(%q) = %v, want %q and no password told", tt.url, err, tt.err)
			}
		})
	}
}

func TestHandOff(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	tests := map[string]struct {
		answer func(http.ResponseWriter, *http.Request, push.DispatchRequest)
		cfg    Config
		url    string  // instead of the server's
		want   []error // sentinels, or a *push.Problem of which the code counts
	}{
		"confirmed": {answer: confirmAll, want: []error{nil, nil, nil}},
		"one refused": {answer: func(w http.ResponseWriter, _ *http.Request, req push.DispatchRequest) {
			serve.JSON(w, 200, push.DispatchAnswer{Results: []push.DispatchResult{{ID: req.Messages[0].ID},
				{ID: req.Messages[1].ID, Problem: push.NewProblem(push.CodeInvalidMessage, "no")}, {ID: req.Messages[2].ID}}})
		}, want: []error{nil, push.NewProblem(push.CodeInvalidMessage, ""), nil}},
		"unavailable": {answer: func(w http.ResponseWriter, r *http.Request, _ push.DispatchRequest) {
			serve.Problem(w, r, push.NewProblem(push.CodeUnavailable, "redis is away"))
		}, want: []error{push.NewProblem(push.CodeUnavailable, ""), push.NewProblem(push.CodeUnavailable, ""), push.NewProblem(push.CodeUnavailable, "")}},
		"not JSON": {answer: func(w http.ResponseWriter, _ *http.Request, _ push.DispatchRequest) { w.Write([]byte("<html>")) },
			want: []error{ErrAnswer, ErrAnswer, ErrAnswer}},
		"a stranger's 502": {answer: func(w http.ResponseWriter, _ *http.Request, _ push.DispatchRequest) {
			http.Error(w, "bad gateway", http.StatusBadGateway)
		},
			want: []error{ErrAnswer, ErrAnswer, ErrAnswer}},
		"redirect": {answer: func(w http.ResponseWriter, r *http.Request, _ push.DispatchRequest) {
			http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
		},
			want: []error{ErrAnswer, ErrAnswer, ErrAnswer}},
		"too few results": {answer: func(w http.ResponseWriter, _ *http.Request, _ push.DispatchRequest) {
			serve.JSON(w, 200, push.DispatchAnswer{})
		}, want: []error{ErrAnswer, ErrAnswer, ErrAnswer}},
		"another's result": {answer: func(w http.ResponseWriter, _ *http.Request, req push.DispatchRequest) {
			serve.JSON(w, 200, push.DispatchAnswer{Results: []push.DispatchResult{{ID: "x"}, {ID: req.Messages[1].ID}, {ID: req.Messages[2].ID}}})
		}, want: []error{ErrAnswer, nil, nil}},
		"breaks off": {answer: func(http.ResponseWriter, *http.Request, push.DispatchRequest) { panic(http.ErrAbortHandler) },
			want: []error{ErrUnreachable, ErrUnreachable, ErrUnreachable}},
		"does not answer": {cfg: Config{Deadline: 20 * time.Millisecond}, answer: func(_ http.ResponseWriter, r *http.Request, _ push.DispatchRequest) {
			select {
			case <-r.Context().Done():
			case <-release:
			}
		}, want: []error{ErrTimeout, ErrTimeout, ErrTimeout}},
		"nobody there": {answer: confirmAll, url: "http://127.0.0.1:1", want: []error{ErrUnreachable, ErrUnreachable, ErrUnreachable}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDispatch(t, tt.answer)
			if tt.url == "" {
				tt.url = d.URL
			}
			got := newClient(t, tt.url, tt.cfg).HandOff(t.Context(), messages(3, `"<x>"`), false)
			if len(got) != len(tt.want) {
				t.Fatalf("HandOff = %v, want %d errors", got, len(tt.want))
			}
			for i := range got {
				if p, ok := tt.want[i].(*push.Problem); ok {
					if q, ok := errors.AsType[*push.Problem](got[i]); !ok || q.Code != p.Code {
						t.Errorf("error %d = %v, want a problem %s", i, got[i], p.Code)
					}
					continue
				}
				if !errors.Is(got[i], tt.want[i]) {
					t.Errorf("error %d = %v, want %v", i, got[i], tt.want[i])
				}
			}
		})
	}
}

func TestHandOffInParts(t *testing.T) {
	tests := map[string]struct {
		failAt int // the request that is refused, counted from 1; 0: none
		sizes  []int
		want   []error
	}{
		"all go":                  {0, []int{2, 2, 1}, []error{nil, nil, nil, nil, nil}},
		"nothing overtakes":       {2, []int{2, 2}, []error{nil, nil, ErrAnswer, ErrAnswer, ErrNotTried}},
		"nothing, from the start": {1, []int{2}, []error{ErrAnswer, ErrAnswer, ErrNotTried, ErrNotTried, ErrNotTried}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			count := 0
			d := newDispatch(t, func(w http.ResponseWriter, r *http.Request, req push.DispatchRequest) {
				if count++; count == tt.failAt {
					http.Error(w, "no", 500)
					return
				}
				confirmAll(w, r, req)
			})
			list := messages(5, `"`+strings.Repeat("x", 1000)+`"`)
			got := newClient(t, d.URL, Config{MaxBody: 2700}).HandOff(t.Context(), list, true)
			for i := range got {
				if !errors.Is(got[i], tt.want[i]) {
					t.Errorf("error %d = %v, want %v", i, got[i], tt.want[i])
				}
			}
			next := 0
			for i, req := range d.requests {
				if !req.Again || i >= len(tt.sizes) || len(req.Messages) != tt.sizes[i] {
					t.Fatalf("request %d holds %d messages (again %v), want the sizes %v", i, len(req.Messages), req.Again, tt.sizes)
				}
				for _, m := range req.Messages {
					if m.ID != list[next].ID || string(m.Data) != string(list[next].Data) || len(m.To.Users) != 1 {
						t.Errorf("message %d arrived as %+v, want %s", next, m, list[next].ID)
					}
					next++
				}
			}
		})
	}
}

func TestHandOffOfWhatCannotBeEncoded(t *testing.T) {
	d := newDispatch(t, confirmAll)
	list := messages(3, `1`)
	list[0].Data, list[1].Data = json.RawMessage(`{`), json.RawMessage(`]`)
	got := newClient(t, d.URL, Config{}).HandOff(t.Context(), list, false)
	if got[0] == nil || got[1] == nil || got[2] != nil {
		t.Errorf("HandOff = %v, want only the last confirmed", got)
	}
	if got := newClient(t, d.URL, Config{}).HandOff(t.Context(), nil, false); len(got) != 0 {
		t.Errorf("HandOff of nothing = %v", got)
	}
}

// FuzzAnswer reads answers of a stranger at Dispatch's address: a message
// counts as confirmed only if a 200 has a result for it, without a problem.
func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`{"results":[{"id":"shop/0"},{"id":"shop/1","problem":{"code":"unavailable"}}]}`))
	f.Add(200, []byte(`{"results":[{"id":"shop/1"},{"id":"shop/1"}]}`))
	f.Add(503, []byte(`{"code":"unavailable","status":503}`))
	f.Add(200, []byte(`null`))
	list := messages(2, `1`)
	f.Fuzz(func(t *testing.T, status int, raw []byte) {
		errs := make([]error, len(list))
		if readAnswer(status, raw, list, errs) != nil {
			return
		}
		var a struct {
			Results []struct {
				ID      string
				Problem any
			}
		}
		if status != 200 || json.Unmarshal(raw, &a) != nil || len(a.Results) != len(list) {
			t.Fatalf("readAnswer(%d, %q) found results", status, raw)
		}
		for i, err := range errs {
			if err == nil && (a.Results[i].ID != string(list[i].ID) || a.Results[i].Problem != nil) {
				t.Fatalf("readAnswer(%d, %q) confirms message %d", status, raw, i)
			}
		}
	})
}
