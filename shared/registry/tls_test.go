package registry_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/registry"
	"pushcluster/shared/registry/registrytest"
)

// An authority signs certificates for one test.
type authority struct {
	t    *testing.T
	dir  string
	file string // its own certificate
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert = &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.file = a.issue("ca", a.cert)
	return a
}

// issue signs cert, which lasts for an hour unless it says something else, and
// returns the file that holds it. Its key is beside it, see keyOf.
func (a *authority) issue(name string, cert *x509.Certificate) (file string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if a.key == nil {
		a.key = key // its own
	}
	cert.SerialNumber = big.NewInt(time.Now().UnixNano())
	cert.NotBefore = time.Now().Add(-24 * time.Hour)
	if cert.NotAfter.IsZero() {
		cert.NotAfter = time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	file = filepath.Join(a.dir, name+".pem")
	write := func(file, kind string, der []byte) {
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	write(file, "CERTIFICATE", der)
	write(keyOf(file), "PRIVATE KEY", secret)
	return file
}

func keyOf(cert string) string { return strings.TrimSuffix(cert, ".pem") + ".key" }

func (a *authority) forHost(name string, hosts ...string) string {
	cert := &x509.Certificate{}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			cert.IPAddresses = append(cert.IPAddresses, ip)
		} else {
			cert.DNSNames = append(cert.DNSNames, h)
		}
	}
	return a.issue(name, cert)
}

// tlsArgs are those of a redis-server that shows cert on port, and wants to see a
// certificate of a.
func (a *authority) tlsArgs(port, cert string) []string {
	return []string{"--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", keyOf(cert), "--tls-ca-cert-file", a.file,
		"--tls-auth-clients", "yes"}
}

// needTLS skips a test where redis-server is missing, or was built without TLS;
// with CI=true it fails.
func needTLS(t *testing.T) {
	t.Helper()
	skip := t.Skip
	if os.Getenv("CI") == "true" {
		skip = t.Fatal
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		skip("skipped: TLS needs redis-server, which is not on PATH")
	}
	cmd := exec.Command("redis-server", "-")
	cmd.Stdin = strings.NewReader("tls-replication no\nport none\n") // it ends at the first line that it does not take
	if out, _ := cmd.CombinedOutput(); !bytes.Contains(out, []byte("port none")) {
		skip("skipped: this redis-server was built without TLS")
	}
}

// withTLS starts a redis-server with TLS and returns the address where it has that.
func (a *authority) withTLS(cert string) (s *registrytest.Server, addr string) {
	a.t.Helper()
	port := freePort(a.t)
	return registrytest.Redis(a.t, a.tlsArgs(port, cert)...), "127.0.0.1:" + port
}

// parameters returns those of a REDIS_URL that trusts a and shows it a client's
// certificate.
func (a *authority) parameters(client string) string {
	return "ca_file=" + url.QueryEscape(a.file) + "&cert_file=" + url.QueryEscape(client) + "&key_file=" + url.QueryEscape(keyOf(client))
}

func TestTLS(t *testing.T) {
	needTLS(t)
	a := newAuthority(t)
	const password = "s3/c+r%t"
	secret := url.QueryEscape(password)
	server, good := a.withTLS(a.forHost("good", "127.0.0.1"))
	do(t, server, "CONFIG", "SET", "requirepass", password)
	_, named := a.withTLS(a.forHost("named", "redis.example"))
	ended := &x509.Certificate{IPAddresses: []net.IP{{127, 0, 0, 1}}, NotAfter: time.Now().Add(-time.Hour)}
	_, old := a.withTLS(a.issue("old", ended))
	client := a.parameters(a.forHost("client", "client"))
	both := filepath.Join(a.dir, "both.pem")
	var text []byte
	for _, f := range []string{"client.pem", "client.key"} {
		part, err := os.ReadFile(filepath.Join(a.dir, f))
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, part...)
	}
	if err := os.WriteFile(both, text, 0o600); err != nil {
		t.Fatal(err)
	}

	tests := map[string]struct {
		url  string
		want string // in the error; "": none
	}{
		"all of it":       {"rediss://:" + secret + "@" + good + "?" + client, ""},
		"key in one file": {"rediss://:" + secret + "@" + good + "?ca_file=" + a.file + "&cert_file=" + both, ""},
		"named":           {"rediss://" + named + "?" + client + "&server_name=redis.example", ""},
		"other name":      {"rediss://" + named + "?" + client, "x509: cannot validate certificate for 127.0.0.1"},
		"unknown CA":      {"rediss://:" + secret + "@" + good, "x509: certificate signed by unknown authority"},
		"ended":           {"rediss://" + old + "?" + client, "x509: certificate has expired"},
		"wrong password":  {"rediss://:" + secret + "x@" + good + "?" + client, "WRONGPASS"},
		"no password":     {"rediss://" + good + "?" + client, "NOAUTH"},
		"no certificate":  {"rediss://:" + secret + "@" + good + "?ca_file=" + a.file, "ping redis"}, // it hangs up
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := registry.CheckURL(tt.url); err != nil {
				t.Fatal(err)
			}
			reg, err := registry.Open(tt.url, &registrytest.Terms{}, registry.Config{Timeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = reg.Close() })
			err = reg.Ready(t.Context())
			if tt.want == "" {
				if err != nil {
					t.Fatalf("Ready: %v", err)
				}
				place(t, reg, "#42", "m1")
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Ready = %v, want %q", err, tt.want)
			}
			if strings.Contains(err.Error(), password) || strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}

// What the files of a REDIS_URL lack is told before anything connects.
func TestTLSFiles(t *testing.T) {
	a := newAuthority(t)
	client, other := a.forHost("client", "client"), a.forHost("other", "other")
	tests := map[string]struct{ url, want string }{
		"no such CA":       {"rediss://h?ca_file=" + a.dir + "/none", "ca_file: open "},
		"no CA":            {"rediss://h?ca_file=" + keyOf(client), "holds no certificate in PEM"},
		"no such client":   {"rediss://h?cert_file=" + a.dir + "/none", "cert_file, key_file: open "},
		"another's key":    {"rediss://h?cert_file=" + client + "&key_file=" + keyOf(other), "private key does not match public key"},
		"no key":           {"rediss://h?cert_file=" + client, "found a certificate rather than a key"},
		"key alone":        {"rediss://h?key_file=" + keyOf(client), "key_file needs cert_file"},
		"without TLS":      {"redis://h?ca_file=" + a.file, `parameter "ca_file" needs rediss`},
		"name without TLS": {"redis+cluster://h?server_name=h", `parameter "server_name" needs rediss`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := registry.CheckURL(tt.url); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("CheckURL(%q) = %v, want %q", tt.url, err, tt.want)
			}
		})
	}
}

func TestTLSCluster(t *testing.T) {
	needTLS(t)
	a := newAuthority(t)
	cert := a.forHost("server", "127.0.0.1")
	var ports []string
	servers := clusterWith(t, func() []string {
		ports = append(ports, freePort(t))
		return append(a.tlsArgs(ports[len(ports)-1], cert), "--tls-cluster", "yes")
	})
	for _, s := range servers {
		do(t, s, "CONFIG", "SET", "requirepass", "sesame")
	}
	// One is named: of the others it tells.
	reg, err := registry.Open("rediss+cluster://:sesame@127.0.0.1:"+ports[len(ports)-1]+"?"+a.parameters(a.forHost("client", "client")),
		&registrytest.Terms{}, registry.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	for i := range 30 { // at all three
		place(t, reg, push.Channel(fmt.Sprint("#", i)), "m1")
	}
}

// Sentinels have TLS, and a user and a password of their own, who may do no more
// than the documentation says.
func TestTLSSentinel(t *testing.T) {
	needTLS(t)
	a := newAuthority(t)
	cert := a.forHost("server", "127.0.0.1")
	s, addr := a.withTLS(cert)
	do(t, s, "CONFIG", "SET", "requirepass", "sesame")
	host, port, _ := net.SplitHostPort(addr)
	own := freePort(t)
	conf := filepath.Join(a.dir, "sentinel.conf") // it writes there, too
	var text strings.Builder
	fmt.Fprintf(&text, "port 0\nbind 127.0.0.1\ndir %s\ntls-replication yes\n", a.dir)
	fmt.Fprintf(&text, "user default off\nuser push on >barley resetchannels -@all %s\n",
		strings.Join(documented(t, "A user at the Sentinels: `", "`"), " "))
	args := a.tlsArgs(own, cert)
	for i := 0; i < len(args); i += 2 {
		fmt.Fprintf(&text, "%s %s\n", strings.TrimPrefix(args[i], "--"), args[i+1])
	}
	fmt.Fprintf(&text, "sentinel monitor main %s %s 1\nsentinel auth-pass main sesame\n", host, port)
	if err := os.WriteFile(conf, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("redis-server", conf, "--sentinel")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})

	at := "rediss+sentinel://:sesame@127.0.0.1:" + own + "/main?" + a.parameters(a.forHost("client", "client"))
	reg, err := registry.Open(at+"&sentinel_user=push&sentinel_password=barley", &registrytest.Terms{}, registry.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	eventually(t, func() error { return reg.Ready(t.Context()) }) // it starts
	place(t, reg, "#42", "m1")

	locked, err := registry.Open(at+"&sentinel_user=push&sentinel_password=rye", &registrytest.Terms{}, registry.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = locked.Close() })
	if err := locked.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "WRONGPASS") || strings.Contains(err.Error(), "rye") {
		t.Errorf("Ready with the sentinel's password wrong = %v, want WRONGPASS", err)
	}
}
