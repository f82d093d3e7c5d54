//go:build linux

package swarm

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// A server is a WebSocket server that remembers its connections.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	conns  []*websocket.Conn
	asked  []string // targets of handshakes
	refuse bool
	pongs  chan string
}

func newServer(t *testing.T) *server {
	s := &server{pongs: make(chan string, 100)}
	up := websocket.Upgrader{WriteBufferSize: 64} // so that what is long comes in several frames
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked = append(s.asked, r.URL.String())
		if s.refuse {
			http.Error(w, "not you", http.StatusUnauthorized)
			return
		}
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		s.conns = append(s.conns, c)
		go s.read(c)
	}))
	t.Cleanup(func() {
		s.Server.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, c := range s.conns {
			c.Close()
		}
	})
	return s
}

func (s *server) read(c *websocket.Conn) {
	for {
		_, b, err := c.ReadMessage()
		if err != nil {
			return
		}
		s.pongs <- string(b)
	}
}

func (s *server) addr() string { return strings.TrimPrefix(s.URL, "http://") }

// send sends text to every connection, in small fragments.
func (s *server) send(t *testing.T, text string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		w, err := c.NextWriter(websocket.TextMessage)
		if err != nil {
			t.Fatal(err)
		}
		for part := range strings.SplitSeq(text, "x") { // each is written where the buffer is full
			if _, err := w.Write([]byte(part + "x")); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func tokens(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = "token"
	}
	return list
}

func TestSwarm(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	srv := newServer(t)
	s, err := New(Config{Addrs: []string{srv.addr()}, Dialect: Plain(), Tokens: tokens(20), InFlight: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	srv.send(t, string(AppendPayload(nil, time.Now())))
	srv.send(t, string(AppendPayload(AppendPayload(nil, time.Now()), time.Now())))
	if _, err := s.Await(ctx, 60); err != nil {
		t.Fatal(err)
	}
	if got := s.Counts(); got.Messages != 60 || got.Frames <= 40 {
		t.Errorf("%+v arrived, want 60 messages in more than 40 frames", got)
	}
	if took := s.Took(); took.Total() != 60 || took.Quantile(1) > 10*time.Second {
		t.Errorf("%d times were taken, the longest %v", took.Total(), took.Quantile(1))
	}

	s.Drop()
	s.Reset()
	if err := s.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if len(srv.asked) != 40 || srv.asked[0] != "/ws?token=token" || srv.asked[39] != "/ws?token=token&since=1" {
		t.Errorf("%d handshakes, first %q, last %q", len(srv.asked), srv.asked[0], srv.asked[len(srv.asked)-1])
	}
}

func TestSwarmPongs(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	srv := newServer(t)
	dialect := Centrifugo(true)
	dialect.Greet = nil // the server of this test does not answer
	s, err := New(Config{Addrs: []string{srv.addr()}, Dialect: dialect, Tokens: tokens(1)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	pings := []string{"{}", "{}\n{\"push\":{}}", "{\"push\":{}}\n{}", "{\"push\":{}}\n{}\n{\"push\":{}}"}
	for _, ping := range pings {
		srv.mu.Lock()
		err = srv.conns[0].WriteMessage(websocket.TextMessage, []byte(ping))
		srv.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-srv.pongs:
			if got != "{}" {
				t.Errorf("%q is answered %q, want {}", ping, got)
			}
		case <-ctx.Done():
			t.Fatalf("the ping in %q is not answered", ping)
		}
	}
}

func TestSwarmFaults(t *testing.T) {
	tests := map[string]struct {
		breaks func(t *testing.T, srv *server)
		want   string
	}{
		"refused": {func(_ *testing.T, srv *server) {
			srv.mu.Lock()
			defer srv.mu.Unlock()
			srv.refuse = true
		}, `401 Unauthorized" "not you`},
		"gone": {func(_ *testing.T, srv *server) { srv.Server.Close() }, "connection refused"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			srv := newServer(t)
			tt.breaks(t, srv)
			s, err := New(Config{Addrs: []string{srv.addr()}, Dialect: Plain(), Tokens: tokens(2)})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.Connect(ctx); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Connect: %v, want it to say %q", err, tt.want)
			}
		})
	}
	t.Run("closed later", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		srv := newServer(t)
		s, err := New(Config{Addrs: []string{srv.addr()}, Dialect: Plain(), Tokens: tokens(2)})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Connect(ctx); err != nil {
			t.Fatal(err)
		}
		srv.mu.Lock()
		_ = srv.conns[0].WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(3008, "slow"))
		srv.mu.Unlock()
		if _, err := s.Await(ctx, 1); err == nil || !strings.Contains(err.Error(), `3008 "slow"`) {
			t.Errorf("Await: %v, want the close code", err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"not loopback":      {Addrs: []string{"192.0.2.1:80"}, Tokens: tokens(1)},
		"no address":        {Addrs: []string{"localhost:80"}, Tokens: tokens(1)},
		"no address at all": {Tokens: tokens(1)},
		"nobody":            {Addrs: []string{"127.0.0.1:80"}},
		"too many":          {Addrs: []string{"127.0.0.1:80"}, Tokens: tokens(MaxCount + 1)},
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := New(cfg); err == nil {
				s.Close()
				t.Error("New succeeded")
			}
		})
	}
}
