package node_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"pushcluster/pushnode/node"
)

// dialTLS opens a connection to s, which has TLS.
func dialTLS(t *testing.T, s *httptest.Server) *websocket.Conn {
	t.Helper()
	known := x509.NewCertPool()
	known.AddCert(s.Certificate())
	d := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: known, ServerName: "example.com"}, HandshakeTimeout: time.Minute}
	ws, _, err := d.Dial("wss"+strings.TrimPrefix(s.URL, "https")+"/connection/websocket", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	_ = ws.SetReadDeadline(time.Now().Add(time.Minute)) // fails on a closed connection alone
	return ws
}

// connectTLS is dialTLS for user 42, who is connected then.
func connectTLS(t *testing.T, s *httptest.Server) *websocket.Conn {
	t.Helper()
	ws := dialTLS(t, s)
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"id":1,"connect":{"token":"42"}}`)); err != nil {
		t.Fatal(err)
	}
	if _, reply, err := ws.ReadMessage(); err != nil || !bytes.Contains(reply, []byte(`"connect":{`)) {
		t.Fatalf("connect is answered %s, %v", reply, err)
	}
	return ws
}

// A client that takes nothing is told that it is slow over TLS, too, as soon as it
// takes what was on its way.
func TestTLSSlowIsTold(t *testing.T) {
	c := newCluster(t, node.Config{
		QueueBytes: 64 << 20, WriteTimeout: 200 * time.Millisecond, SlowTimeout: 5 * time.Minute,
		CloseTimeout: 5 * time.Minute, PingInterval: time.Hour,
	}, 1)
	s := httptest.NewTLSServer(c.nodes[0].Public())
	t.Cleanup(s.Close)
	ws := connectTLS(t, s)
	big := `"` + strings.Repeat("x", 60<<10) + `"`
	ws.NetConn().(*tls.Conn).NetConn().(*net.TCPConn).SetReadBuffer(64 << 10)
	for range 100 { // 6 MB: more than the kernel's buffers take then
		c.send("#42", big)
	}
	eventually(t, "the client counts as slow", func() bool { return c.nodes[0].Slow("write_timeout") == 1 })
	_ = ws.SetReadDeadline(time.Now().Add(5 * time.Minute))
	for {
		_, _, err := ws.ReadMessage()
		if err != nil {
			if !websocket.IsCloseError(err, 3008) {
				t.Errorf("the slow client's connection ends with %v, want 3008", err)
			}
			return
		}
	}
}

// A node whose server has TLS opens connections and brings messages, and tells a
// client whose frame is too large why it is closed.
func TestTLSInTheNode(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	s := httptest.NewTLSServer(c.nodes[0].Public())
	t.Cleanup(s.Close)
	ws := connectTLS(t, s)
	c.send("#42", `"hello"`)
	if _, message, err := ws.ReadMessage(); err != nil || !bytes.Contains(message, []byte(`"hello"`)) {
		t.Errorf("received %s, %v", message, err)
	}

	large := dialTLS(t, s)
	if err := large.WriteMessage(websocket.TextMessage, make([]byte, 100<<10)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := large.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseMessageTooBig) {
		t.Errorf("a frame that is too large ends in %v, want close code 1009", err)
	}
}
