package node

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// An intakeConn is the connection that an intake's WebSocket believes to have.
// What the WebSocket writes goes to the peer of the moment.
type intakeConn struct {
	net.Conn // nil: gorilla calls nothing else
	intake   *intake
}

// Write sends p to whom the intake reads for. With nobody there it is the answer
// to a handshake that nobody asked for.
func (c intakeConn) Write(p []byte) (int, error) {
	if c.intake.peer == nil {
		return len(p), nil
	}
	return c.intake.peer.writeFault(p)
}

func (c intakeConn) Close() error                     { return nil }
func (c intakeConn) SetDeadline(time.Time) error      { return nil }
func (c intakeConn) SetWriteDeadline(time.Time) error { return nil }

// An intakeTaker gives the upgrader an intake's connection and buffers.
type intakeTaker struct {
	http.ResponseWriter // nil: what is asked here is never refused
	intake              *intake
}

// Hijack returns the intake's connection (http.Hijacker).
func (t intakeTaker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return intakeConn{intake: t.intake}, bufio.NewReadWriter(t.intake.br, t.intake.bw), nil
}

// newWebSocket makes a WebSocket that reads what the intake is given. gorilla
// makes none but by a handshake. in.mu is held.
func (in *intake) newWebSocket() (*websocket.Conn, error) {
	in.take(nil) // the upgrader looks at the buffers
	u := websocket.Upgrader{WriteBufferSize: writeBuffer, WriteBufferPool: &sync.Pool{}}
	ws, err := u.Upgrade(intakeTaker{intake: in}, &http.Request{Method: http.MethodGet, Header: http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
	}}, nil)
	if err != nil {
		return nil, err
	}
	hearControls(ws, func() peer { return in.peer })
	return ws, nil
}

// hearControls has ws tell who its peer is then of every control frame.
func hearControls(ws *websocket.Conn, who func() peer) {
	ws.SetPingHandler(func(data string) error {
		who().heardControl(websocket.PingMessage, 0, data)
		return nil
	})
	ws.SetPongHandler(func(data string) error {
		who().heardControl(websocket.PongMessage, 0, data)
		return nil
	})
	ws.SetCloseHandler(func(code int, text string) error {
		who().heardControl(websocket.CloseMessage, code, text)
		return nil
	})
}
