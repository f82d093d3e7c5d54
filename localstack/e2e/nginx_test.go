package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pushcluster/localstack/stack"
	"pushcluster/shared/freeaddr"
)

// startNginx starts nginx before s as docs/operations.md says, and returns the URL
// at which it is and whom to trust there.
func startNginx(t *testing.T, s *stack.Stack) (base string, known *tls.Config) {
	t.Helper()
	program := need(t, "nginx", "/usr/sbin/nginx") // Debian has it outside of a user's PATH
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "\n```nginx\n")
	conf, _, ends := strings.Cut(rest, "\n```\n")
	if !ok || !ends {
		t.Fatal("docs/operations.md has no configuration of nginx")
	}
	dir := t.TempDir()
	cert, key, known := certificate(t, dir)
	addr, err := freeaddr.One()
	if err != nil {
		t.Fatal(err)
	}
	host := func(p *stack.Process) string { return strings.TrimPrefix(p.URL, "http://") }
	for old, own := range map[string]string{
		"listen 443 ssl": "listen " + addr + " ssl", "/etc/ssl/push.example.pem": cert, "/etc/ssl/push.example.key": key,
		"10.0.0.5:8711": host(s.Node(0)), "10.0.0.6:8711": host(s.Node(1)),
		"10.0.0.5:8702": host(s.Collect), "10.0.0.6:8702": host(s.Collect) + " down",
	} {
		if strings.Count(conf, old) != 1 {
			t.Fatalf("the configuration has %q %d times, want it once:\n%s", old, strings.Count(conf, old), conf)
		}
		conf = strings.Replace(conf, old, own, 1)
	}
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		conf += fmt.Sprintf("%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	conf = "daemon off;\nmaster_process off;\npid nginx.pid;\nevents {}\nhttp {\naccess_log off;\n" + conf + "}\n"
	file, errors := filepath.Join(dir, "nginx.conf"), filepath.Join(dir, "error.log")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-p", dir, "-c", file, "-e", errors)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may be gone already
		<-done
	})
	for deadline := time.Now().Add(time.Minute); ; {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return "https://" + addr, known
		}
		select {
		case <-done:
			said, _ := os.ReadFile(errors)
			t.Fatalf("nginx ended at once: %s", said)
		case <-time.After(5 * time.Millisecond): // the port tells nobody when it opens
		}
		if time.Now().After(deadline) {
			t.Fatalf("nginx does not listen within a minute: %v", err)
		}
	}
}

// certificate writes a certificate for 127.0.0.1 and its key to dir, and returns
// their files and who trusts them.
func certificate(t *testing.T, dir string) (cert, key string, known *tls.Config) {
	t.Helper()
	server := httptest.NewTLSServer(nil) // it brings one
	defer server.Close()
	pair := server.TLS.Certificates[0]
	secret, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	known = &tls.Config{RootCAs: x509.NewCertPool()}
	known.RootCAs.AddCert(server.Certificate())
	return cert, key, known
}

// Clients come over TLS and nginx, pages of its name and of no other may, and when
// a node drains they are led to the other one.
func TestBehindNginx(t *testing.T) {
	s := start(t)
	base, known := startNginx(t, s)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: known, DisableKeepAlives: true}}
	for origin, want := range map[string]int{base: http.StatusSwitchingProtocols, "https://elsewhere.example": http.StatusForbidden} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/connection/websocket", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Origin": {origin}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"},
			"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("a page of %s gets %s, want %d", origin, resp.Status, want)
		}
	}

	var people []*person
	for range 4 {
		people = append(people, newPerson(t, base, come{token: tokenOf(t, s, "42"), tls: known}).connected())
	}
	post(t, s, `{"to":{"users":["42"]},"data":1}`)
	for _, p := range people {
		p.receives("1")
	}
	if err := s.Node(0).Stop(); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v1/messages", strings.NewReader(`{"to":{"users":["42"]},"data":2}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-Key", s.APIKey())
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("a message over nginx is answered %s", resp.Status)
	}
	moved := 0
	for _, p := range people {
		p.receives("1", "2")
		p.mu.Lock()
		told := slices.Clone(p.told)
		p.mu.Unlock()
		if slices.Contains(told, "connecting 3001") {
			moved++
		}
		for _, what := range told {
			if !slices.Contains([]string{"connecting 0", "connected", "connecting 3001"}, what) {
				t.Errorf("a client was told %v", told)
			}
		}
	}
	if moved == 0 || moved == len(people) {
		t.Errorf("%d of %d clients were on the node that drained, want some", moved, len(people))
	}
}
