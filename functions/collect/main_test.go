package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"pushcluster/shared/serve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRun starts the program without a Dispatch, sends a message, looks at both
// ports, and stops it.
func TestRun(t *testing.T) {
	sources := filepath.Join(t.TempDir(), "sources.yaml")
	if err := os.WriteFile(sources, []byte("sources:\n  a: {verify: gitlab, secrets: token, rules: {to: {all: true}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environment := map[string]string{
		"SOURCES": sources, "CALLBACK_ALLOW": "10.0.0.0/8,fd00::/8",
		"LISTEN": "127.0.0.1:0", "INTERNAL_LISTEN": "127.0.0.1:0",
		"STORE_URL":       "sqlite:" + filepath.Join(t.TempDir(), "store"),
		"DISPATCH_URL":    "http://127.0.0.1:1", // nobody listens there
		"API_KEYS":        "shop:sesame",
		"SIGNING_SECRETS": "a signing secret for the tests",
	}
	cfg, err := serve.Load[Config](t.Context(), func(name string) string { return environment[name] })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	logs, stderr := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, cfg, stderr)
		stderr.Close()
	}()
	addrs := listening(t, logs)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	ask := func(method, url, body string) (int, string) {
		req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-API-Key", "sesame")
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(answer)
	}
	if status, body := ask("POST", addrs["public"]+"/v1/messages", `{"id":"a","to":{"all":true},"data":1}`); status != 202 {
		t.Errorf("a message is answered %d %s, want 202: the outbox has it", status, body)
	}
	if status, body := ask("POST", addrs["public"]+"/v1/webhooks/a", `{}`); status != 401 || !strings.Contains(body, "signature_missing") {
		t.Errorf("an unsigned webhook is answered %d %s, want 401", status, body)
	}
	for url, want := range map[string]string{
		addrs["public"] + "/v1/messages/shop%2Fa": `"state":"stored"`,
		addrs["public"] + "/readyz":               "ok",
		addrs["internal"] + "/metrics":            `collect_outbox_total{reason="unconfirmed"} 1`,
	} {
		if status, body := ask("GET", url, ""); status != 200 || !strings.Contains(body, want) {
			t.Errorf("GET %s = %d without %q", url, status, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run = %v after its context ended, want nil", err)
	}
}

// listening reads the log until both ports are open, and goes on reading it.
func listening(t *testing.T, logs io.Reader) map[string]string {
	t.Helper()
	addrs := make(map[string]string)
	lines := bufio.NewScanner(logs)
	for len(addrs) < 2 && lines.Scan() {
		var line struct{ Msg, Port, Addr string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("log line %q: %v", lines.Text(), err)
		}
		if line.Msg == "listening" {
			addrs[line.Port] = "http://" + line.Addr
		}
	}
	go io.Copy(io.Discard, logs) // ends when run does
	return addrs
}

func TestConfigTellsAllMistakes(t *testing.T) {
	tests := map[string]struct {
		env  map[string]string
		want []string // beginnings of the errors, one a line
	}{
		"bad": {map[string]string{"API_KEYS": "sesame", "SIGNING_SECRETS": "sesame", "DISPATCH_URL": "sqs://queue.fifo", "LOG_LEVEL": "loud",
			"STORE_URL": "postgres://ann:sesame@h/x", "SOURCES": "missing.yaml", "REDIS_URL": "http://h", "DISPATCH_RPC_URL": "sqs://queue",
			"LISTEN": "8702"},
			[]string{"API_KEYS: ", "SIGNING_SECRETS: ", "DISPATCH_URL: the URL of Dispatch must be sqs://QUEUE", "LOG_LEVEL: ",
				"STORE_URL: ", "SOURCES: ", "REDIS_URL: ", "DISPATCH_RPC_URL: ", "LISTEN: "}},
		"nothing set": {nil, []string{"API_KEYS: not set", "SIGNING_SECRETS: not set", "DISPATCH_URL: not set", "STORE_URL: not set"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := serve.Load[Config](t.Context(), func(name string) string { return tt.env[name] })
			if err == nil {
				t.Fatal("Load = nil error")
			}
			for _, want := range tt.want {
				if strings.Count("\n"+err.Error(), "\n"+want) != 1 {
					t.Errorf("errors:\n%v\nwant %q once", err, want)
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
}
