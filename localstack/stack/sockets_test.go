package stack

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"pushcluster/pushnode/node"
)

// A client is a WebSocket without a library, and so without goroutines.
type client struct {
	net.Conn
	read *bufio.Reader
}

// open opens a WebSocket of [DemoUser] at the node and returns when the node has
// answered its connect command, of which nothing is read.
func open(t *testing.T, s *Stack, n *Process) *client {
	t.Helper()
	token, err := s.Token(DemoUser)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(n.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &client{conn, bufio.NewReader(conn)}
	c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(c, "GET /connection/websocket?token=%s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", token)
	resp, err := http.ReadResponse(c.read, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake with %s is answered %v, %v", n.Name, resp, err)
	}
	const connect = `{"id":1,"connect":{}}`
	c.Write(append([]byte{0x81, 0x80 | byte(len(connect)), 0, 0, 0, 0}, connect...)) // masked with zeros
	if _, err := c.read.Peek(1); err != nil {
		t.Fatalf("connect at %s is not answered: %v", n.Name, err)
	}
	return c
}

// What runs here is what runs in production: where there are event loops, a
// connection has no goroutine.
func TestNodesHaveEventLoops(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("event loops are for Linux")
	}
	s := start(t, Config{Nodes: 1, Node: node.Config{ConnectTimeout: time.Minute}})
	const connections = 100
	before := runtime.NumGoroutine()
	for range connections {
		open(t, s, s.Node(0))
	}
	if more := runtime.NumGoroutine() - before; more > connections/2 {
		t.Errorf("%d connections have %d goroutines, want none of their own", connections, more)
	}
}

// Kill cuts connections as the end of a process does, without a word.
func TestKillResetsClients(t *testing.T) {
	for name, sockets := range map[string]node.Sockets{"best": node.SocketsBest, "goroutine": node.SocketsGoroutine} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Config{Nodes: 1, Node: node.Config{ConnectTimeout: time.Minute, DrainTime: time.Minute, Sockets: sockets}})
			n := s.Node(0)
			client := open(t, s, n)
			silent, err := net.Dial("tcp", strings.TrimPrefix(n.URL, "http://")) // has not said what it wants
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			silent.SetDeadline(time.Now().Add(time.Minute))
			n.Kill()
			if _, err := io.Copy(io.Discard, client.read); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the killed node's client reads until %v, want a reset", err)
			}
			if got, err := silent.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read of a connection that said nothing = %d bytes, %v, want it closed", got, err)
			}
			if c, err := net.Dial("tcp", strings.TrimPrefix(n.URL, "http://")); err == nil {
				c.Close()
				t.Error("a killed node takes connections")
			}
		})
	}
}
