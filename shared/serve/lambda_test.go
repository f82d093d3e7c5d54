package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

type functionConfig struct {
	Word string `env:"WORD,required" help:"what it answers"`
}

// A testFunction is a program that answers its WORD, started as on Lambda.
type testFunction struct {
	handler *function
	file    string // holds WORD
	log     *syncBuffer
	stop    func()
	code    chan int
	fail    chan error // what is sent here ends a run that answers
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func startFunction(t *testing.T) *testFunction {
	t.Helper()
	f := &testFunction{file: filepath.Join(t.TempDir(), "word"), log: &syncBuffer{}, code: make(chan int, 1), fail: make(chan error, 1)}
	f.write(t, "first")
	ctx, stop := context.WithCancel(t.Context())
	f.stop = stop
	t.Cleanup(stop)
	p := Program[functionConfig]{Name: "echo", Run: func(ctx context.Context, cfg functionConfig, _ io.Writer) error {
		if cfg.Word == "unusable" {
			return errors.New("cannot use that")
		}
		if cfg.Word == "slow" {
			<-ctx.Done()
			return nil
		}
		if !OnLambda(ctx) {
			return errors.New("not on Lambda")
		}
		running, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		go func() {
			select {
			case err := <-f.fail:
				cancel(err)
			case <-running.Done():
			}
		}()
		err := Start(running, discard(), Events{HTTP: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, cfg.Word)
		})})
		if ctx.Err() == nil {
			return context.Cause(running)
		}
		return err
	}}
	getenv := func(name string) string {
		return map[string]string{"WORD": "file:" + f.file, runtimeAPI: "127.0.0.1:1"}[name]
	}
	listening := make(chan *function)
	go func() {
		f.code <- p.function(ctx, getenv, f.log, func(h lambda.Handler) { listening <- h.(*function) })
	}()
	f.handler = <-listening
	return f
}

func (f *testFunction) write(t *testing.T, word string) {
	t.Helper()
	if err := os.WriteFile(f.file, []byte(word), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ask returns what the function answers; due makes it look at WORD first.
func (f *testFunction) ask(t *testing.T, due bool, patience time.Duration) string {
	t.Helper()
	if due {
		f.handler.checked = time.Time{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	raw, err := f.handler.Invoke(ctx, []byte(`{"version":"2.0","requestContext":{"http":{"method":"GET"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	var a eventAnswer
	if err := json.Unmarshal(raw, &a); err != nil {
		t.Fatal(err)
	}
	return a.Body
}

// TestFunctionFollowsItsSecrets changes a value under a running function.
func TestFunctionFollowsItsSecrets(t *testing.T) {
	f := startFunction(t)
	steps := []struct {
		name, write string
		due         bool
		patience    time.Duration
		want        string
	}{
		{"as it started", "", true, time.Minute, "first"},
		{"changed, not yet looked at", "second", false, time.Minute, "first"},
		{"changed", "", true, time.Minute, "second"},
		{"empty: the old one stays", "\n", true, time.Minute, "second"},
		{"unusable: the old one stays", "unusable", true, time.Minute, "second"},
		{"starting takes too long: the old one stays", "slow", true, 200 * time.Millisecond, "second"},
		{"mended", "third", true, time.Minute, "third"},
	}
	for _, s := range steps {
		if s.write != "" {
			f.write(t, s.write)
		}
		if got := f.ask(t, s.due, s.patience); got != s.want {
			t.Fatalf("%s: answer = %q, want %q; log:\n%s", s.name, got, s.want, f.log)
		}
	}
	f.stop()
	if code := <-f.code; code != 0 {
		t.Errorf("exit code %d after its end was asked for, want 0", code)
	}
}

// Whoever may take 2 s, as Dispatch may, is not to spend them all on a Secrets
// Manager that does not answer: then Lambda would end it, and what starts in its
// place needs the secrets.
func TestRefreshLeavesTimeForTheEvent(t *testing.T) {
	tests := map[string]struct{ left, want time.Duration }{
		"Collect":             {15 * time.Second, refreshTimeout},
		"Auth":                {5 * time.Second, 2500 * time.Millisecond},
		"a quick Dispatch":    {2 * time.Second, time.Second},
		"an event that ended": {0, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := refreshTime(tt.left); got != tt.want {
				t.Errorf("refreshTime(%v) = %v, want %v", tt.left, got, tt.want)
			}
		})
	}
	f := startFunction(t)
	var until time.Time
	f.handler.load = func(ctx context.Context) (map[string]string, func() *generation, error) {
		until, _ = ctx.Deadline()
		return nil, nil, errors.New("nobody answers")
	}
	f.ask(t, true, 2*time.Second)
	if took := until.Sub(f.handler.checked); took > time.Second {
		t.Errorf("an event of 2 s looks at the secrets for %v, want half of that at most", took)
	}
}

func TestFunctionEndsWithItsProgram(t *testing.T) {
	f := startFunction(t)
	f.fail <- errors.New("the floor is gone")
	if code := <-f.code; code != 1 || !strings.Contains(f.log.String(), "the floor is gone") {
		t.Errorf("exit code %d, log %s; want 1 and the reason", code, f.log)
	}
}

func TestFunctionThatCannotStart(t *testing.T) {
	tests := map[string]struct {
		word string
		run  func(context.Context, functionConfig, io.Writer) error
		want int
		told string
	}{
		"bad configuration": {"", nil, 2, "WORD: not set"},
		"bad start": {"x", func(context.Context, functionConfig, io.Writer) error {
			return errors.New("no floor")
		}, 1, "no floor"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var log syncBuffer
			p := Program[functionConfig]{Name: "echo", Run: tt.run}
			getenv := func(name string) string { return map[string]string{"WORD": tt.word}[name] }
			code := p.function(t.Context(), getenv, &log, func(lambda.Handler) { t.Error("it listens") })
			if code != tt.want || !strings.Contains(log.String(), tt.told) {
				t.Errorf("exit code %d, log %s; want %d and %q", code, log.String(), tt.want, tt.told)
			}
		})
	}
}
