package mongostore_test

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pushcluster/shared/push"
	"pushcluster/shared/store"
	"pushcluster/shared/store/mongostore"
	"pushcluster/shared/store/storetest"
)

// A terminator has TLS in front of a server, and keeps what it is told.
type terminator struct {
	addr string
	ca   string // the file of who signed its certificate

	mu   sync.Mutex
	told bytes.Buffer
}

// Write keeps p (io.Writer).
func (o *terminator) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.told.Write(p)
}

func (o *terminator) has(text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Contains(o.told.Bytes(), []byte(text))
}

// terminate puts TLS in front of the server at addr, for 127.0.0.1.
func terminate(t *testing.T, addr string) *terminator {
	t.Helper()
	brings := httptest.NewTLSServer(nil)
	pair := brings.TLS.Certificates[0]
	brings.Close()
	o := &terminator{ca: filepath.Join(t.TempDir(), "ca.pem")}
	if err := os.WriteFile(o.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	o.addr = l.Addr().String()
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { o.pass(c, addr) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait() // the store has closed its connections
	})
	return o
}

// pass passes on what comes on c and what is answered, until either side ends.
func (o *terminator) pass(c net.Conn, addr string) {
	defer c.Close()
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(c, server)
		_ = c.Close()
	})
	_, _ = io.Copy(io.MultiWriter(server, o), c)
	_ = server.Close()
	back.Wait()
}

// What a cloud's connection string says of TLS counts, and what it says of how
// sure a write or how old a read may be does not.
func TestTLS(t *testing.T) {
	plain, err := url.Parse(storetest.FerretDB(t))
	if err != nil {
		t.Fatal(err)
	}
	o := terminate(t, plain.Host)
	// FerretDB asks nobody for a password, and the connection string of a cloud has one.
	at := "mongodb://" + o.addr + "/pushcluster?maxUpdates=40&w=1&journal=false&retryWrites=false&readPreference=secondaryPreferred&tls=true"
	tests := map[string]struct {
		options string
		want    string // in the error; "": none
	}{
		"its own CA":     {"&tlsCAFile=" + url.QueryEscape(o.ca), ""},
		"the system's":   {"", "x509: certificate signed by unknown authority"},
		"told otherwise": {"&tlsInsecure=true", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			timeout := 2 * time.Minute
			if tt.want != "" {
				timeout = 100 * time.Millisecond // for so long a server is waited for each time
			}
			s, err := mongostore.Open(at+tt.options, mongostore.Config{Timeout: timeout})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			if tt.want != "" {
				for began := time.Now(); ; { // a first look at the server may take longer
					if err = s.Prepare(t.Context()); err != nil && strings.Contains(err.Error(), tt.want) {
						return
					}
					if err == nil || time.Since(began) > time.Minute {
						t.Fatalf("Prepare = %v, want %q", err, tt.want)
					}
				}
			}
			if err := s.Prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			m := push.Message{ID: push.MessageID(name), CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)}
			if _, err := s.InsertMessages(t.Context(), []store.Record{{Message: m}}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.LoadMessages(t.Context(), []push.MessageID{m.ID}); err != nil {
				t.Fatal(err)
			}
		})
	}
	if !o.has("w\x00\x09\x00\x00\x00majority\x00") || !o.has("\x08j\x00\x01") {
		t.Error("writes did not ask for a majority and its journals")
	}
	if o.has("secondaryPreferred") || o.has("\x10w\x00\x01") {
		t.Error("what the connection string says of reads or writes reached the server")
	}
}
