package nodeclient

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"pushcluster/shared/push"
	"pushcluster/shared/signature"
)

// streamBuffer is how many bytes of a frame one write takes.
const streamBuffer = 64 << 10

// dialer returns what opens streams: a handshake that is signed for the node.
// What it returns fails with [ErrOtherNode], with [errNoStream] where somebody
// answered who has no stream to offer, else as requests do.
func dialer(connect net.Dialer, signer *signature.Signer, now func() time.Time) func(context.Context, push.NodeID) (*websocket.Conn, error) {
	ws := websocket.Dialer{
		NetDialContext: connect.DialContext, HandshakeTimeout: connect.Timeout,
		ReadBufferSize: 4 << 10, WriteBufferSize: streamBuffer, WriteBufferPool: &sync.Pool{},
	}
	return func(ctx context.Context, node push.NodeID) (*websocket.Conn, error) {
		header := make(http.Header)
		if err := signer.Sign(header, "str_"+rand.Text(), now(), push.StreamStatement(node)); err != nil {
			return nil, err
		}
		target := url.URL{Scheme: "ws", Host: node.Addr(), Path: push.StreamPath, RawQuery: url.Values{"node": {string(node)}}.Encode()}
		if _, err := url.Parse(target.String()); err != nil {
			return nil, fmt.Errorf("%w: its id holds no usable address", ErrUnreachable)
		}
		conn, res, err := ws.DialContext(ctx, target.String(), header)
		if err == nil {
			return conn, nil
		}
		if res == nil || !errors.Is(err, websocket.ErrBadHandshake) {
			return nil, transportError(ctx, err)
		}
		raw, err := io.ReadAll(res.Body) // gorilla has read it, up to 1 KiB
		if err == nil {
			if err = decodeAnswer(res.StatusCode, raw, &struct{}{}); errors.Is(err, ErrOtherNode) {
				return nil, err
			}
		}
		return nil, fmt.Errorf("%w: %w", errNoStream, err)
	}
}
