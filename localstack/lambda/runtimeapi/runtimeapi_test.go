package runtimeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/shared/serve"
)

// TestMain also is the function under test: the environment starts this binary
// again, as Lambda would start a bootstrap.
func TestMain(m *testing.M) {
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		os.Exit(serve.Main(serve.Program[functionConfig]{Name: "function", Run: function}))
	}
	goleak.VerifyTestMain(m)
}

type functionConfig struct {
	Word string `env:"WORD,required"`
}

func function(ctx context.Context, cfg functionConfig, stderr io.Writer) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		end, _ := r.Context().Deadline()
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintln(stderr, "echoing")
		fmt.Fprintf(w, "%s %s %v %v", cfg.Word, body, serve.Invoked(r.Context()), time.Until(end) > 0)
	})
	mux.HandleFunc("POST /die", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	mux.HandleFunc("POST /hang", func(http.ResponseWriter, *http.Request) { select {} })
	mux.HandleFunc("POST /panic", func(http.ResponseWriter, *http.Request) { panic("boom") })
	log := slog.New(slog.NewJSONHandler(stderr, nil))
	return serve.Start(ctx, log, serve.Events{HTTP: serve.Wrap("public", mux, log, nil)})
}

type safeBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start runs this binary as a function until the test ends.
func start(t *testing.T, cfg Config) (*Environment, *safeBuffer, <-chan error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := &safeBuffer{}
	cfg.Command, cfg.Log, cfg.Init = []string{self}, log, time.Minute
	e := New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		ended <- e.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-stopped
	})
	return e, log, ended
}

func post(t *testing.T, path, body string) []byte {
	t.Helper()
	r, err := http.NewRequest("POST", "lambda://function"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return serve.InvokeEvent(r, []byte(body))
}

func TestInvoke(t *testing.T) {
	e, log, _ := start(t, Config{Env: []string{"WORD=hello"}, Timeout: 5 * time.Second})
	steps := []struct {
		name, path, body string
		failed           bool
		want             string
		cold             bool // it was started for this
	}{
		{"answers", "/echo", "you", false, "hello you true true", true},
		{"and again", "/echo", "there", false, "hello there true true", false},
		{"panics, and lives on", "/panic", "", false, `internal`, false},
		{"dies", "/die", "", true, "Runtime.ExitError", false},
		{"is started again", "/echo", "you", false, "hello you", true},
		{"hangs", "/hang", "", true, "Task timed out after 5.00 seconds", false},
		{"is started again", "/echo", "you", false, "hello you", true},
	}
	for _, s := range steps {
		res, err := e.Invoke(t.Context(), post(t, s.path, s.body), "arn:aws:lambda:x", "Root=1")
		if err != nil || res.Failed != s.failed || !strings.Contains(string(res.Payload), s.want) {
			t.Fatalf("%s: %s (failed %v), %v; want %q (failed %v); log:\n%s", s.name, res.Payload, res.Failed, err, s.want, s.failed, log)
		}
		if (res.Init > 0) != s.cold {
			t.Errorf("%s: started for it in %s, want that %v", s.name, res.Init, s.cold)
		}
	}
	res, err := e.Invoke(t.Context(), []byte(`{"neither":"nor"}`), "", "")
	var told struct{ ErrorMessage string }
	if err != nil || !res.Failed || json.Unmarshal(res.Payload, &told) != nil || told.ErrorMessage != serve.ErrEvent.Error() {
		t.Errorf("an event of no kind gives %s, %v; want %v", res.Payload, err, serve.ErrEvent)
	}
	if !strings.Contains(log.String(), "echoing") {
		t.Errorf("the function's output is lost: %s", log)
	}
}

func TestReport(t *testing.T) {
	tests := map[string]struct {
		result Result
		want   string
	}{
		"cold": {Result{Took: 5200 * time.Microsecond, Init: 30100 * time.Microsecond, Memory: 20 << 20},
			"REPORT RequestId: 1\tDuration: 5.20 ms\tBilled Duration: 36 ms\tMemory Size: 512 MB\tMax Memory Used: 20 MB\tInit Duration: 30.10 ms\n"},
		"warm": {Result{Took: 5 * time.Millisecond},
			"REPORT RequestId: 1\tDuration: 5.00 ms\tBilled Duration: 5 ms\tMemory Size: 512 MB\tMax Memory Used: 0 MB\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.result.Report("1", "512"); got != tt.want {
				t.Errorf("Report = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFunctionThatDoesNotStart(t *testing.T) {
	_, log, ended := start(t, Config{})
	if err := <-ended; !errors.Is(err, ErrInit) || !strings.Contains(log.String(), "WORD: not set") {
		t.Errorf("Run = %v, log %s; want ErrInit and the variable", err, log)
	}
}

func TestInvokeGivesUp(t *testing.T) {
	e, _, _ := start(t, Config{Env: []string{"WORD=hello"}})
	<-e.Ready()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := e.Invoke(ctx, post(t, "/hang", ""), "", ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Invoke = %v, want its deadline", err)
	}
	if res, err := e.Invoke(t.Context(), post(t, "/echo", "x"), "", ""); err != nil || res.Failed {
		t.Errorf("Invoke after that = %s, %v", res.Payload, err)
	}
}
