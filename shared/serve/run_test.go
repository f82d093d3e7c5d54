package serve

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/shared/secret"
)

// TestMain runs the tests, or, as a process that one of them started, what that
// one wants of it.
func TestMain(m *testing.M) {
	if os.Getenv(asStopped) != "" {
		os.Exit(beStopped())
	}
	goleak.VerifyTestMain(m)
}

func TestRunEndsRequestsUnderWay(t *testing.T) {
	l, err := Listen(t.Context(), "LISTEN", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inside, release := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(inside)
		<-release
		io.WriteString(w, "whole")
	})
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() {
		ran <- Run(ctx, quiet(),
			Server{Name: "public", Listener: l, Handler: h},
			Server{Name: "internal", Env: "INTERNAL_LISTEN", Addr: "127.0.0.1:0", Handler: http.NewServeMux()})
	}()
	got := make(chan string, 1)
	go func() {
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := c.Get("http://" + l.Addr().String())
		if err != nil {
			got <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		got <- string(body)
	}()
	<-inside
	stop()
	waitRefused(t, l.Addr().String())
	close(release)
	if s := <-got; s != "whole" {
		t.Errorf("the request under way got %q, want its whole answer", s)
	}
	if err := <-ran; err != nil {
		t.Errorf("Run = %v, want nil after its context ended", err)
	}
}

// waitRefused returns when nobody listens at addr any more.
func waitRefused(t *testing.T, addr string) {
	t.Helper()
	for {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return
		}
		c.Close()
	}
}

func TestRunCutsOffAfterGrace(t *testing.T) {
	l, _ := Listen(t.Context(), "LISTEN", "127.0.0.1:0")
	inside := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(inside)
		<-r.Context().Done()
	})
	ran := make(chan error, 1)
	go func() {
		ran <- Run(ctx, quiet(), Server{Name: "public", Listener: l, Handler: h, Grace: time.Millisecond})
	}()
	asked := make(chan error, 1)
	go func() {
		res, err := http.Get("http://" + l.Addr().String())
		if err == nil {
			res.Body.Close()
		}
		asked <- err
	}()
	<-inside
	stop()
	if err := <-asked; err == nil {
		t.Error("a request beyond the grace was answered, want it cut off")
	}
	if err := <-ran; err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
}

// A server that fails leaves no connection behind that nobody serves.
func TestRunClosesWhatAFailedServerHad(t *testing.T) {
	l, err := Listen(t.Context(), "LISTEN", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() {
		ran <- Run(t.Context(), quiet(), Server{Name: "public", Listener: l, Handler: http.NotFoundHandler()})
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	answers := bufio.NewReader(c)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	res, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
	l.Close()
	if err := <-ran; err == nil {
		t.Error("Run = nil after its listener failed")
	}
	if _, err := answers.ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read of an idle connection = %v, want it closed", err)
	}
}

func TestRunNamesTheVariableOfATakenPort(t *testing.T) {
	taken, _ := net.Listen("tcp", "127.0.0.1:0")
	defer taken.Close()
	free, _ := net.Listen("tcp", "127.0.0.1:0")
	err := Run(t.Context(), quiet(),
		Server{Name: "internal", Env: "INTERNAL_LISTEN", Addr: taken.Addr().String()},
		Server{Name: "public", Listener: free})
	if err == nil || !strings.Contains(err.Error(), "set INTERNAL_LISTEN to move it") {
		t.Errorf("Run on a taken port = %v, want an error that names INTERNAL_LISTEN", err)
	}
	waitRefused(t, free.Addr().String())
}

// Logging is exported because only then an embedded struct can be set.
type Logging struct {
	Log string `env:"LOG_LEVEL" envDefault:"info" help:"least level that is logged"`
}

// A list takes no part that is "bad", and tells each, as a type of its own does.
type list []string

func (l *list) UnmarshalText(text []byte) error {
	var errs []error
	for _, part := range strings.Split(string(text), ",") {
		if part == "bad" {
			errs = append(errs, fmt.Errorf("bad part %d", len(errs)+1))
		}
	}
	*l = strings.Split(string(text), ",")
	return errors.Join(errs...)
}

type config struct {
	Listen string        `env:"LISTEN" envDefault:":8702" help:"address of the public port"`
	Store  string        `env:"STORE_URL,required" help:"where messages are kept" secret:"true"`
	Keys   secret.Keys   `env:"API_KEYS" help:"name:secret pairs"`
	Sign   secret.List   `env:"SIGNING_SECRETS" help:"newest first"`
	Drain  time.Duration `env:"DRAIN_TIME" envDefault:"30s" help:"how long connections take to leave"`
	Number int           `env:"PRIVATE_NUMBER" secret:"true"`
	Parts  list          `env:"PARTS"`
	Logging
}

func (c *config) Check() error {
	var errs []error
	if c.Drain < 0 {
		errs = append(errs, errors.New("DRAIN_TIME: is negative"))
	}
	if c.Store == "" || c.Store == "nowhere" {
		errs = append(errs, errors.New("STORE_URL: leads nowhere"))
	}
	return errors.Join(errs...)
}

// TestLoadTellsWhatAValueIsToBe shows what stands in place of the words of parsers.
func TestLoadTellsWhatAValueIsToBe(t *testing.T) {
	type kinds struct {
		Level slog.Level    `env:"LEVEL"`
		Count int           `env:"COUNT"`
		Wait  time.Duration `env:"WAIT"`
		On    bool          `env:"ON"`
	}
	env := map[string]string{"LEVEL": "loud", "COUNT": "1e3", "WAIT": "20", "ON": "maybe"}
	_, err := Load[kinds](t.Context(), func(k string) string { return env[k] })
	want := "LEVEL: is none of DEBUG, INFO, WARN and ERROR\nCOUNT: is no whole number, or too large a one\n" +
		"WAIT: is no duration, such as 500ms, 20s or 1m30s\nON: is neither true nor false"
	if got := fmt.Sprint(err); got != want {
		t.Errorf("Load = %q, want %q", got, want)
	}
}

func TestLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("shop:one\nshop:two\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		env  map[string]string
		want []string // parts of the error, one a line; none: no error
	}{
		"good": {map[string]string{"STORE_URL": "env:REAL", "REAL": "sqlite:x", "API_KEYS": "file:" + file, "SIGNING_SECRETS": "a,b"}, nil},
		"everything bad at once": {map[string]string{
			"API_KEYS": "shop", "SIGNING_SECRETS": "sesame,,", "DRAIN_TIME": "soon", "PRIVATE_NUMBER": "sesame"},
			[]string{"STORE_URL: not set", "API_KEYS: key 1 is not of the form", "SIGNING_SECRETS: secret 2 is empty", "DRAIN_TIME: is no duration", "PRIVATE_NUMBER: not valid"}},
		"unresolved":                  {map[string]string{"STORE_URL": "env:NOTHING"}, []string{`STORE_URL: env:NOTHING: the variable "NOTHING" is not set`}},
		"arn":                         {map[string]string{"STORE_URL": "arn:aws:ssm:eu:1:parameter/s"}, []string{"STORE_URL: "}},
		"own check":                   {map[string]string{"STORE_URL": "x", "DRAIN_TIME": "-1s"}, []string{"DRAIN_TIME: is negative"}},
		"own check, one told already": {map[string]string{"DRAIN_TIME": "-1s"}, []string{"STORE_URL: not set", "DRAIN_TIME: is negative"}},
		"own check, two":              {map[string]string{"STORE_URL": "nowhere", "DRAIN_TIME": "-1s"}, []string{"DRAIN_TIME: is negative", "STORE_URL: leads nowhere"}},
		"a list, two of it bad":       {map[string]string{"STORE_URL": "x", "PARTS": "bad,good,bad"}, []string{"PARTS: bad part 1", "PARTS: bad part 2"}},
		"empty is not":                {map[string]string{"STORE_URL": "x", "DRAIN_TIME": ""}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg, err := Load[config](t.Context(), func(k string) string { return tt.env[k] })
			if len(tt.want) == 0 {
				if err != nil {
					t.Fatalf("Load = %v, want no error", err)
				}
				if cfg.Listen != ":8702" || cfg.Drain != 30*time.Second || cfg.Log != "info" {
					t.Errorf("Load = %+v, want the defaults", cfg)
				}
				return
			}
			if err == nil {
				t.Fatalf("Load = %+v, want errors %q", cfg, tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("errors:\n%v\nlack %q", err, want)
				}
			}
			if got := strings.Count(err.Error(), "\n") + 1; got != len(tt.want) {
				t.Errorf("errors:\n%v\nare %d, want %d", err, got, len(tt.want))
			}
			if strings.Contains(err.Error(), "sesame") {
				t.Errorf("errors tell a secret: %v", err)
			}
		})
	}
	cfg, _ := Load[config](t.Context(), func(k string) string { return tests["good"].env[k] })
	if cfg.Store != "sqlite:x" || cfg.Keys.Len() != 2 || len(cfg.Sign) != 2 {
		t.Errorf("Load = %+v, want a resolved store, two keys, two secrets", cfg)
	}
}

func TestMainCodes(t *testing.T) {
	program := func(run error) Program[config] {
		return Program[config]{Name: "demo", About: "Shows.", Run: func(context.Context, config, io.Writer) error { return run }}
	}
	good := func(k string) string { return map[string]string{"STORE_URL": "x"}[k] }
	none := func(string) string { return "" }
	stopped := fmt.Errorf("serve: %w", context.Canceled)
	tests := map[string]struct {
		args           []string
		getenv         func(string) string
		run            error
		code           int
		stdout, stderr string
	}{
		"clean":                {nil, good, nil, 0, "", ""},
		"told to stop":         {nil, good, stopped, 0, "", ""},
		"cancelled by itself":  {nil, good, errors.Join(errors.New("no luck"), context.Canceled), 1, "", "demo: no luck\n"},
		"broken":               {nil, good, errors.New("no luck"), 1, "", "demo: no luck\n"},
		"bad value, seen late": {nil, good, fmt.Errorf("%w: STORE_URL: is gone", ErrConfig), 2, "", "STORE_URL: is gone\n"},
		"bad variable":         {nil, none, nil, 2, "", "demo: STORE_URL: not set, but required\n"},
		"argument":             {[]string{"-x"}, good, nil, 2, "", `there is no argument "-x"`},
		"help":                 {[]string{"-h"}, none, nil, 0, "  DRAIN_TIME       30s         how long connections take to leave\n", ""},
		"help names all": {[]string{"--help"}, none, nil, 0,
			"  STORE_URL        (required)  where messages are kept\n", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			if tt.run == stopped {
				stop()
			}
			code := program(tt.run).main(ctx, tt.args, tt.getenv, &stdout, &stderr)
			if code != tt.code || !strings.Contains(stdout.String(), tt.stdout) || !strings.Contains(stderr.String(), tt.stderr) {
				t.Errorf("main(%q) = %d\nstdout %s\nstderr %s\nwant %d, %q, %q", tt.args, code, &stdout, &stderr, tt.code, tt.stdout, tt.stderr)
			}
		})
	}
}
