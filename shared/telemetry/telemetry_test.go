package telemetry

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestTrace(t *testing.T) {
	const valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	tests := map[string]struct {
		header string
		kept   bool
	}{
		"valid":          {valid, true},
		"none":           {"", false},
		"garbage":        {"hello\"}", false},
		"zero trace":     {"00-00000000000000000000000000000000-00f067aa0ba902b7-01", false},
		"version ff":     {"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false},
		"upper case":     {strings.ToUpper(valid), false},
		"later version":  {"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", true},
		"too much of it": {valid + "-more", false},
	}
	form := regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$`)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			h.Set("traceparent", tt.header)
			h.Set("tracestate", "a=b")
			got := Trace(h)
			if !form.MatchString(got) {
				t.Errorf("Trace(%q) = %q, want the form %s", tt.header, got, form)
			}
			if kept := got == valid; kept != tt.kept {
				t.Errorf("Trace(%q) = %q, want it kept: %v", tt.header, got, tt.kept)
			}
		})
	}
	if a, b := Trace(http.Header{}), Trace(http.Header{}); a == b {
		t.Errorf("two new traces are both %s", a)
	}
}

func FuzzTrace(f *testing.F) {
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	f.Add("00--")
	form := regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]$`)
	f.Fuzz(func(t *testing.T, header string) {
		if got := Trace(http.Header{"Traceparent": {header}}); !form.MatchString(got) {
			t.Fatalf("Trace(%q) = %q", header, got)
		}
	})
}

func TestInternal(t *testing.T) {
	server := httptest.NewServer(Internal(NewRegistry("demo")))
	defer server.Close()
	for path, want := range map[string]string{
		"/metrics":                  `pushcluster_build_info{go="go`,
		"/debug/pprof/":             "goroutine",
		"/debug/pprof/heap?debug=1": "heap profile",
	} {
		res, err := server.Client().Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("GET %s = %d without %q", path, res.StatusCode, want)
		}
	}
}

func TestInternalFree(t *testing.T) {
	server := httptest.NewServer(Internal(NewRegistry("demo")))
	defer server.Close()
	for method, want := range map[string]int{"POST": 204, "GET": 405} {
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/debug/free", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s /debug/free is answered %d, want %d", method, res.StatusCode, want)
		}
	}
}

func TestNewLog(t *testing.T) {
	var out bytes.Buffer
	log := NewLog(&out, "demo", slog.LevelInfo)
	log.Debug("hidden")
	log.Info("seen", "n", 1, "over", 1500*time.Millisecond)
	var line struct {
		Msg, Program, Level, Over string
		N                         int
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Msg != "seen" || line.Program != "demo" || line.N != 1 || line.Over != "1.5s" {
		t.Errorf("log = %q (%v), want one line of JSON that names demo, and 1.5s", &out, err)
	}
}
