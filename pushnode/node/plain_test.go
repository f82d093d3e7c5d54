package node

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A recorder is a connection that keeps what is written, and lets itself be taken
// over (http.Hijacker).
type recorder struct {
	http.ResponseWriter
	net.Conn
	written bytes.Buffer
}

func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	in := newIntake()
	return r, bufio.NewReadWriter(in.br, in.bw), nil
}
func (r *recorder) Write(p []byte) (int, error)      { return r.written.Write(p) }
func (r *recorder) Close() error                     { return nil }
func (r *recorder) SetDeadline(time.Time) error      { return nil }
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }
func (r *recorder) WriteHeader(int)                  {}
func (r *recorder) Header() http.Header              { return http.Header{} }

// handshakeRequest returns a request with these headers, each value of each line.
func handshakeRequest(upgrade, connection, version, key, protocol string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, socketPath, nil)
	for name, value := range map[string]string{
		"Upgrade": upgrade, "Connection": connection, "Sec-Websocket-Version": version, "Sec-Websocket-Key": key, "Sec-Websocket-Protocol": protocol,
	} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	return r
}

// comparePlain reports whether r is taken as plain, and if so compares the answer
// with gorilla's.
func comparePlain(t *testing.T, r *http.Request) bool {
	t.Helper()
	accept, ok := plainHandshake(r)
	if !ok {
		return false
	}
	rec := &recorder{}
	ws, err := upgrader.Upgrade(rec, r, nil)
	if err != nil || ws.Subprotocol() != "" {
		t.Fatalf("gorilla does not take %v: %v", r.Header, err)
	}
	if got := appendAccepted(nil, accept); !bytes.Equal(got, rec.written.Bytes()) {
		t.Errorf("%v is answered %q, gorilla says %q", r.Header, got, rec.written.Bytes())
	}
	return true
}

func TestPlainHandshake(t *testing.T) {
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	tests := map[string]struct {
		r    *http.Request
		want bool
	}{
		"usual":             {handshakeRequest("websocket", "Upgrade", "13", key, ""), true},
		"in other letters":  {handshakeRequest("WebSocket", "upgrade", "13", key, ""), true},
		"Firefox":           {handshakeRequest("websocket", "keep-alive, Upgrade", "13", key, ""), false},
		"a subprotocol":     {handshakeRequest("websocket", "Upgrade", "13", key, "centrifuge-protobuf"), false},
		"another version":   {handshakeRequest("websocket", "Upgrade", "8", key, ""), false},
		"a short key":       {handshakeRequest("websocket", "Upgrade", "13", key[:20], ""), false},
		"a key of 17 bytes": {handshakeRequest("websocket", "Upgrade", "13", "dGhlIHNhbXBsZSBub25jZSE=", ""), false},
		"no key":            {handshakeRequest("websocket", "Upgrade", "13", "", ""), false},
		"no base64":         {handshakeRequest("websocket", "Upgrade", "13", "????????????????????????", ""), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := comparePlain(t, tt.r); got != tt.want {
				t.Errorf("taken as plain: %v, want %v", got, tt.want)
			}
		})
	}
}

func FuzzPlainHandshake(f *testing.F) {
	f.Add("websocket", "Upgrade", "13", "dGhlIHNhbXBsZSBub25jZQ==", "")
	f.Add("WEBSOCKET", "upgrade", "13", "AAAAAAAAAAAAAAAAAAAAAA==", "centrifuge-json")
	f.Add("websocket", "keep-alive, Upgrade", "13", "dGhlIHNhbXBsZSBub25jZQ=a", "")
	f.Fuzz(func(t *testing.T, upgrade, connection, version, key, protocol string) {
		comparePlain(t, handshakeRequest(upgrade, connection, version, key, protocol))
	})
}
