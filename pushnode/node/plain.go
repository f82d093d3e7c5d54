package node

import (
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"strings"

	"pushcluster/shared/push"
)

// Nearly every handshake that the front reads is of one form: one protocol
// version, no subprotocol, a key as RFC 6455 has it. The answer to it is as short
// and always the same but for the key's echo. It is written here; every other
// handshake, and every one that is not in order, is gorilla's, which also says
// what is wrong. A fuzz test holds the one to the other.

// plainHandshake reports whether r is such a handshake, and returns what accepts
// its key. It takes less than gorilla does.
func plainHandshake(r *http.Request) (accept [28]byte, ok bool) {
	h := r.Header
	one := func(name, want string) bool {
		v := h[name]
		return len(v) == 1 && len(v[0]) == len(want) && strings.EqualFold(v[0], want) // so long, only ASCII does
	}
	key := h["Sec-Websocket-Key"]
	if r.Method != http.MethodGet || !one("Connection", "upgrade") || !one("Upgrade", "websocket") || !one("Sec-Websocket-Version", "13") ||
		len(h["Sec-Websocket-Protocol"]) > 0 || len(key) != 1 || len(key[0]) != 24 {
		return accept, false
	}
	// A key, and what RFC 6455 has behind it before it is hashed.
	var text [24 + len(acceptGUID)]byte
	copy(text[:], key[0])
	copy(text[24:], acceptGUID)
	var nonce [18]byte
	if n, err := base64.StdEncoding.Decode(nonce[:], text[:24]); err != nil || n != 16 {
		return accept, false
	}
	hash := sha1.Sum(text[:])
	base64.StdEncoding.Encode(accept[:], hash[:])
	return accept, true
}

const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// appendAccepted appends the answer to a plain handshake.
func appendAccepted(b []byte, accept [28]byte) []byte {
	b = append(b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	return append(append(b, accept[:]...), "\r\n\r\n"...)
}

// frontOf returns the answer that w passes on to, nil where net/http has the
// connection.
func frontOf(w http.ResponseWriter) *frontAnswer {
	for {
		switch v := w.(type) {
		case *frontAnswer:
			return v
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return nil
		}
	}
}

// openPlain accepts a plain handshake that the front read, and opens c.
func (n *Node) openPlain(c *client, w http.ResponseWriter, accept [28]byte, answer *frontAnswer) {
	if _, _, err := http.NewResponseController(w).Hijack(); err != nil {
		return // a frontAnswer has none
	}
	c.sock = pollSocket{answer.sock}
	var room [160]byte
	if _, err := answer.sock.Write(appendAccepted(room[:0], accept)); err != nil {
		answer.sock.Close()
		n.metrics.refused.WithLabelValues(string(push.CodeBadRequest)).Inc()
		return
	}
	n.open(c, nil, answer)
}
