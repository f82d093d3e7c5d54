package node

import (
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestFrontThatEndedKeepsNothing gives a front connections for net/http after it
// has ended, as those do who were reading a request at that moment.
func TestFrontThatEndedKeepsNothing(t *testing.T) {
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	f, ok := (&Node{}).Front(listen(), http.NotFoundHandler()).(*front)
	if !ok {
		t.Skip("no event loops here")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	l := listen()
	for i := range 32 { // one alone may be lucky
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		conn, err := l.Accept()
		f.passOn(conn, err, []byte("GET / HTTP/1.1\r\n")...)
		client.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("connection %d: read = %v, want it closed", i, err)
		}
	}
}
