package node_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"pushcluster/pushnode/node"
)

const handshake = "GET /connection/websocket?token=%s HTTP/1.1\r\nHost: push.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n"

// Whatever reads the request, event loop or net/http, it is answered the same.
func TestOpening(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	tests := map[string]struct {
		pieces []string
		status int
	}{
		"whole":                    {[]string{fmt.Sprintf(handshake, "42", "")}, 101},
		"in pieces":                {[]string{"GET /conn", fmt.Sprintf(handshake, "42", "")[9:60], fmt.Sprintf(handshake, "42", "")[60:]}, 101},
		"left to net/http":         {[]string{fmt.Sprintf(handshake, "42", "X-Odd: é\r\n")}, 101},
		"bad token":                {[]string{fmt.Sprintf(handshake, "bad", "")}, 401},
		"bad token, net/http":      {[]string{fmt.Sprintf(handshake, "bad", "X-Odd: é\r\n")}, 401},
		"bad key":                  {[]string{strings.Replace(fmt.Sprintf(handshake, "42", ""), "dGhl", "", 1)}, 400},
		"with a body":              {[]string{fmt.Sprintf(handshake, "42", "Content-Length: 5\r\n") + "hello"}, 400},
		"with a body that is none": {[]string{fmt.Sprintf(handshake, "42", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n"}, 400},
		"something else":           {[]string{"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"}, 200},
		"something else in pieces": {[]string{"GET /co", "nnection/nothing HTTP/1.1\r\nHost: x\r\n\r\n"}, 404},
		"no HTTP":                  {[]string{"hello\r\n\r\n"}, 400},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", c.nodes[0].public.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			for _, piece := range tt.pieces {
				if _, err := io.WriteString(conn, piece); err != nil {
					t.Fatal(err)
				}
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.status {
				t.Errorf("answered %d, want %d", resp.StatusCode, tt.status)
			}
		})
	}
}

// Requests are read into memory that is used again: not before its handler is
// done with it.
func TestRequestLastsAsLongAsItsHandler(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	held, release, seen := make(chan struct{}), make(chan struct{}), make(chan string, 1)
	front := c.nodes[0].Front(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Who") == "first" {
			close(held)
			<-release
			seen <- fmt.Sprint(r.Header.Get("X-Who"), r.URL.Query().Get("token"))
		}
		w.WriteHeader(http.StatusTeapot)
	}))
	server := &http.Server{Handler: http.NotFoundHandler()}
	served := make(chan error, 1)
	go func() { served <- server.Serve(front) }()
	defer func() {
		server.Close()
		<-served
	}()
	ask := func(who string) net.Conn {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(conn, handshake, who, "X-Who: "+who+"\r\n")
		return conn
	}
	answered := func(conn net.Conn) {
		defer conn.Close()
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != http.StatusTeapot {
			t.Errorf("answered %+v, %v", resp, err)
		}
	}
	first := ask("first")
	<-held
	for range 20 {
		answered(ask("later"))
	}
	close(release)
	if got := <-seen; got != "firstfirst" {
		t.Errorf("after others came the first request is %q", got)
	}
	answered(first)
}

// Who goes on sending after a refusal is not heard to the end.
func TestRefusedAndSending(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	conn, err := net.Dial("tcp", c.nodes[0].public.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, handshake, "bad", "")
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Fatalf("answered %+v, %v, want 401", resp, err)
	}
	const most = 64 << 20 // what is read of it, and what kernels hold, is less
	sent := 0
	for piece := make([]byte, 1<<20); sent < most; sent += len(piece) {
		if _, err := conn.Write(piece); err != nil {
			return
		}
	}
	t.Errorf("%d MiB were taken of a client that was refused", sent>>20)
}
