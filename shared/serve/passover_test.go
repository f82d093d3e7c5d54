package serve_test

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pushcluster/shared/serve"
)

// Who posts a body that is refused unread gets the answer, also on a connection that
// ends with it, and may send all of the body.
func TestRefusedUnread(t *testing.T) {
	refuses := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	server := httptest.NewServer(serve.Wrap("public", refuses, slog.New(slog.DiscardHandler), nil))
	t.Cleanup(server.Close)
	tests := map[string]struct {
		proto, header string
		size          int  // of the body
		kept          bool // it is not sent
	}{
		"HTTP/1.0":          {"HTTP/1.0", "", 1 << 20, false},
		"closes":            {"HTTP/1.1", "Connection: close\r\n", 1 << 20, false},
		"stays":             {"HTTP/1.1", "", 1 << 20, false},
		"small":             {"HTTP/1.1", "Connection: close\r\n", 100, false},
		"waits to be asked": {"HTTP/1.1", "Expect: 100-continue\r\n", 1 << 20, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(conn, "POST / %s\r\nHost: h\r\n%sContent-Length: %d\r\n\r\n", tt.proto, tt.header, tt.size); err != nil {
				t.Fatal(err)
			}
			piece := strings.Repeat("x", 4<<10)
			for sent := 0; sent < tt.size && !tt.kept; sent += len(piece) {
				if _, err := conn.Write([]byte(piece[:min(len(piece), tt.size-sent)])); err != nil {
					t.Fatalf("after %d bytes of %d: %v", sent, tt.size, err)
				}
			}
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if answer.StatusCode != http.StatusUnauthorized {
				t.Errorf("the answer is %s, want 401", answer.Status)
			}
		})
	}
}
