package node_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"pushcluster/pushnode/node"
)

// A node whose server has TLS opens connections and brings messages, and tells a
// client whose frame is too large why it is closed.
func TestTLSInTheNode(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	s := httptest.NewTLSServer(c.nodes[0].Public())
	t.Cleanup(s.Close)
	known := x509.NewCertPool()
	known.AddCert(s.Certificate())
	open := func() *websocket.Conn {
		d := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: known, ServerName: "example.com"}, HandshakeTimeout: patience}
		ws, _, err := d.Dial("wss"+strings.TrimPrefix(s.URL, "https")+"/connection/websocket", nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ws.Close() })
		_ = ws.SetReadDeadline(time.Now().Add(patience)) // fails on a closed connection alone
		return ws
	}

	ws := open()
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"id":1,"connect":{"token":"42"}}`)); err != nil {
		t.Fatal(err)
	}
	if _, reply, err := ws.ReadMessage(); err != nil || !bytes.Contains(reply, []byte(`"connect":{`)) {
		t.Fatalf("connect is answered %s, %v", reply, err)
	}
	c.send("#42", `"hello"`)
	if _, message, err := ws.ReadMessage(); err != nil || !bytes.Contains(message, []byte(`"hello"`)) {
		t.Errorf("received %s, %v", message, err)
	}

	large := open()
	if err := large.WriteMessage(websocket.TextMessage, make([]byte, 100<<10)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := large.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseMessageTooBig) {
		t.Errorf("a frame that is too large ends in %v, want close code 1009", err)
	}
}
