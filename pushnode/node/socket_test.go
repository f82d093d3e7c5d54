package node

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// A peer has its time for each part that it takes, not for all that waits.
func TestFlush(t *testing.T) {
	const timeout = 10 * time.Second
	tests := map[string]struct {
		takes []int // bytes, every 9 s
		want  error
	}{
		"all at once":     {[]int{1000}, nil},
		"a little often":  {[]int{100, 100, 100, 100, 100, 100, 100, 100, 100, 100}, nil},
		"nothing":         {nil, os.ErrDeadlineExceeded},
		"less than there": {[]int{100, 100, 100}, os.ErrDeadlineExceeded},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				s := newSocket(here) // which the system cannot be asked about: all is left to flush
				if _, err := s.Write(make([]byte, 1000)); err != nil {
					t.Fatal(err)
				}
				taken := make(chan struct{})
				go func() {
					defer close(taken)
					for _, n := range tt.takes {
						time.Sleep(9 * time.Second)
						_, _ = io.CopyN(io.Discard, there, int64(n))
					}
				}()
				begin := time.Now()
				if err := s.flush(timeout); !errors.Is(err, tt.want) {
					t.Errorf("flush = %v after %s, want %v", err, time.Since(begin), tt.want)
				}
				here.Close()
				<-taken
			})
		})
	}
}

// With TLS, which is of no use after a deadline, a peer that takes some all the time
// gets everything, too.
func TestFlushTLS(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	server.Close()
	cfg := &tls.Config{Certificates: server.TLS.Certificates}
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		secret := tls.Server(here, cfg)
		shaken := make(chan error, 1)
		go func() { shaken <- secret.Handshake() }()
		peer := tls.Client(there, &tls.Config{InsecureSkipVerify: true, SessionTicketsDisabled: true})
		go func() { _ = peer.Handshake() }() // and then reads nothing
		if err := <-shaken; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s := newSocket(secret)
		if _, err := s.Write(make([]byte, 50_000)); err != nil {
			t.Fatal(err)
		}
		taken := make(chan struct{})
		go func() {
			defer close(taken)
			for err := error(nil); err == nil; {
				time.Sleep(9 * time.Second)
				_, err = io.CopyN(io.Discard, there, 10_000)
			}
		}()
		if err := s.flush(10 * time.Second); err != nil {
			t.Errorf("flush = %v, want all written", err)
		}
		here.Close()
		<-taken
	})
}
