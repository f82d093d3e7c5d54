package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pushcluster/shared/handoff"
	"pushcluster/shared/push"
	"pushcluster/shared/registry/registrytest"
	"pushcluster/shared/serve"
	"pushcluster/shared/signature"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRun starts the program, hands it a message as Collect does, looks at both
// ports, and stops it.
func TestRun(t *testing.T) {
	const secret = "a signing secret for the tests"
	environment := map[string]string{
		"LISTEN": "127.0.0.1:0", "INTERNAL_LISTEN": "127.0.0.1:0",
		"STORE_URL":       "sqlite:" + filepath.Join(t.TempDir(), "store"),
		"REDIS_URL":       registrytest.Redis(t).URL(),
		"SIGNING_SECRETS": secret,
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

	keys, err := signature.ParseKeys([]string{secret})
	if err != nil {
		t.Fatal(err)
	}
	dispatch, err := handoff.New(addrs["public"], handoff.Config{Deadline: time.Minute}, signature.NewSigner(keys))
	if err != nil {
		t.Fatal(err)
	}
	defer dispatch.Close()
	m := push.Message{ID: "shop/1", To: push.Recipients{All: true}, Data: []byte("1")}
	m.ExpiresAt = m.CreatedAt.AddDate(9000, 0, 0)
	if errs := dispatch.HandOff(ctx, []push.Message{m}, false); errs[0] != nil {
		t.Errorf("HandOff: %v", errs[0])
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for url, want := range map[string]string{
		addrs["public"] + "/readyz":    "ok",
		addrs["internal"] + "/metrics": `dispatch_messages_total{outcome="confirmed"} 1`,
	} {
		res, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("GET %s = %d (%v) without %q", url, res.StatusCode, err, want)
		}
	}
	cancel()
	if err := <-done; err != nil && err != context.Canceled {
		t.Errorf("run = %v after its context ended", err)
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
	environment := map[string]string{"SIGNING_SECRETS": "sesame", "REDIS_URL": "http://:sesame@h", "LOG_LEVEL": "loud", "INTERNAL_LISTEN": "8803"}
	_, err := serve.Load[Config](t.Context(), func(name string) string { return environment[name] })
	if err == nil {
		t.Fatal("Load = nil error")
	}
	for _, want := range []string{"LOG_LEVEL: ", "INTERNAL_LISTEN: ", "STORE_URL: not set", "SIGNING_SECRETS: ", "REDIS_URL: "} {
		if strings.Count(err.Error(), want) != 1 {
			t.Errorf("errors:\n%v\nwant %q once", err, want)
		}
	}
	if strings.Contains(err.Error(), "sesame") {
		t.Errorf("errors tell a secret: %v", err)
	}
}
