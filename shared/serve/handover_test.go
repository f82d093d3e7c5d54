package serve

import (
	"io"
	"net"
	"testing"
)

// pair returns both ends of a TCP connection.
func pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e := dial(t, l.Addr().String())
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return e.conn, server
}

func TestHandoverBringsWhatWasRead(t *testing.T) {
	client, server := pair(t)
	h := NewHandover()
	defer h.End()
	io.WriteString(client, "GET / HTTP")
	said := make([]byte, 5)
	io.ReadFull(server, said)
	h.PassOn(server, said)
	io.WriteString(client, "/1.1")
	client.(*net.TCPConn).CloseWrite()
	c, err := h.Next()
	if err != nil {
		t.Fatal(err)
	}
	if c.(*HeardConn).AllRead() {
		t.Error("everything is said to be read before it is")
	}
	all, err := io.ReadAll(c)
	if string(all) != "GET / HTTP/1.1" || err != nil || !c.(*HeardConn).AllRead() {
		t.Errorf("net/http reads %q, %v, want all that was said", all, err)
	}
	if err := c.(*HeardConn).CloseWrite(); err != nil {
		t.Errorf("CloseWrite: %v", err)
	}
	if n, err := client.Read(said); err != io.EOF {
		t.Errorf("behind CloseWrite the client reads %d, %v, want the end", n, err)
	}
}

// A connection that comes when all has ended, as of those who were reading a
// request at that moment, is closed.
func TestHandoverThatEndedKeepsNothing(t *testing.T) {
	h := NewHandover()
	before, server := pair(t)
	h.PassOn(server, nil)
	h.End()
	clients := []net.Conn{before}
	for range 32 { // of two ways that are open Go takes any
		client, server := pair(t)
		h.PassOn(server, []byte("GET /"))
		clients = append(clients, client)
	}
	for i, c := range clients {
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("connection %d: read = %v, want it closed", i, err)
		}
	}
	if c, err := h.Next(); err != net.ErrClosed {
		t.Errorf("Next = %v, %v, want the end", c, err)
	}
}

// What waits for net/http at the moment of the end is closed, whoever finds it.
func TestHandoverHandsNothingOutOnceEnded(t *testing.T) {
	for range 32 { // of two ways that are open Go takes any
		client, server := pair(t)
		h := NewHandover()
		h.PassOn(server, nil)
		close(h.ended) // End, up to where it closes what waits
		if c, err := h.Next(); err != net.ErrClosed {
			t.Fatalf("Next = %v, %v, want the end", c, err)
		}
		h.empty()
		if _, err := client.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("read = %v, want it closed", err)
		}
	}
}
