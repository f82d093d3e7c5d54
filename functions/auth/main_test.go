package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"pushcluster/shared/serve"
)

// TestRun starts the program on two free ports, asks it over both, and stops it.
func TestRun(t *testing.T) {
	environment := map[string]string{
		"LISTEN": "127.0.0.1:0", "INTERNAL_LISTEN": "127.0.0.1:0",
		"SIGNING_SECRETS": "signing-secret-of-at-least-24",
		"API_KEYS":        "shop:key-of-the-shop",
		"TOKEN_KEYS":      "k1:HS256:0123456789abcdef0123456789abcdef",
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

	// The log tells where it listens.
	addrs := map[string]string{}
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
	go io.Copy(io.Discard, logs)

	req, err := http.NewRequestWithContext(ctx, "POST", addrs["public"]+"/v1/tokens", strings.NewReader(`{"user":"42"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-Key", "key-of-the-shop")
	if status, body := do(t, req); status != 201 {
		t.Errorf("a token is answered %d %s, want 201", status, body)
	}
	for url, want := range map[string]string{
		addrs["public"] + "/readyz":    "ok",
		addrs["internal"] + "/metrics": `auth_mints_total{outcome="minted"} 1`,
	} {
		req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if status, body := do(t, req); status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s is %d without %q", url, status, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run = %v after its context ended, want nil", err)
	}
}

func do(t *testing.T, req *http.Request) (int, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestConfig(t *testing.T) {
	const good = "0123456789abcdef0123456789abcdef"
	tests := map[string]struct {
		env  map[string]string
		want []string // what the error names; none: no error
	}{
		"smallest":     {map[string]string{"SIGNING_SECRETS": good, "TOKEN_KEYS": ":HS256:" + good}, nil},
		"JWKS alone":   {map[string]string{"SIGNING_SECRETS": good, "JWKS_URL": "https://issuer.example/jwks"}, nil},
		"several bad":  {map[string]string{"TOKEN_KEYS": "k:HS256:short", "API_KEYS": "nameless", "LOG_LEVEL": "LOUD"}, []string{"SIGNING_SECRETS", "TOKEN_KEYS", "API_KEYS", "LOG_LEVEL"}},
		"bad URLs":     {map[string]string{"SIGNING_SECRETS": good, "JWKS_URL": "issuer.example/jwks", "STORE_URL": "postgres://h/x", "LISTEN": "8701"}, []string{"JWKS_URL: ", "STORE_URL: ", "LISTEN: "}},
		"no keys":      {map[string]string{"SIGNING_SECRETS": good}, []string{"TOKEN_KEYS or JWKS_URL"}},
		"short secret": {map[string]string{"SIGNING_SECRETS": "short"}, []string{"SIGNING_SECRETS", "TOKEN_KEYS or JWKS_URL"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := serve.Load[Config](t.Context(), func(name string) string { return tt.env[name] })
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("Load = %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Load = %v, without %q", err, want)
				}
			}
		})
	}
}
