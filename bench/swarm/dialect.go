package swarm

import (
	"bytes"
	"strconv"
)

// A Client is one connection's side of the conversation.
type Client struct {
	User  int
	Token string

	// Where the client is in its personal channel, for dialects that can return
	// there: its offset as the server last told it. Epoch names the server's
	// data. Known is false before the server told.
	Known  bool
	Offset uint64
	Epoch  string
}

// A Dialect is how a kind of server is spoken to over WebSocket. Request is
// required; what else is nil is left out.
type Dialect struct {
	// Request appends the target (path and query) of the handshake.
	Request func(dst []byte, c *Client) []byte
	// Greet is called when the upgrade is answered, with no payload, and then
	// with every frame until it says ready. What it returns is sent. Nil means
	// that an answered upgrade is a ready connection.
	Greet func(c *Client, payload []byte) (answer []byte, ready bool)
	// Pong returns what answers payload if the dialect's own ping is in it, else
	// nil. There may be messages beside it.
	Pong func(payload []byte) []byte
	// Locate takes the client's position out of a payload.
	Locate func(c *Client, payload []byte)
}

// Plain is the dialect of the floors: the token in the query and nothing but
// payloads in frames. A client that was connected before asks for what it
// missed.
func Plain() Dialect {
	return Dialect{
		Request: func(dst []byte, c *Client) []byte {
			dst = append(append(dst, "/ws?token="...), c.Token...)
			if c.Known {
				dst = append(dst, "&since=1"...)
			}
			return dst
		},
		Locate: func(c *Client, _ []byte) { c.Known = true },
	}
}

var (
	connectReply = []byte(`"connect":{`)
	errorReply   = []byte(`"error":{`)
	emptyObject  = []byte(`{}`)

	// A ping is an empty object on a line of its own, of the several that a frame
	// may have. JSON keeps newlines out of strings.
	pingFirst = []byte("{}\n")
	pingLater = []byte("\n{}")
)

// Centrifugo is the JSON form of the Centrifugo client protocol: ours. With
// handshakeToken the token travels in the handshake, else in the connect
// command.
func Centrifugo(handshakeToken bool) Dialect {
	return Dialect{
		Request: func(dst []byte, c *Client) []byte {
			dst = append(dst, "/connection/websocket"...)
			if handshakeToken {
				dst = append(append(dst, "?token="...), c.Token...)
			}
			return dst
		},
		Greet: func(c *Client, payload []byte) ([]byte, bool) {
			if payload == nil {
				return connectCommand(c, handshakeToken), false
			}
			return nil, bytes.Contains(payload, connectReply) && !bytes.Contains(payload, errorReply)
		},
		Pong: func(payload []byte) []byte {
			if bytes.HasPrefix(payload, pingFirst) || bytes.Contains(payload, pingLater) || bytes.Equal(payload, emptyObject) {
				return emptyObject
			}
			return nil
		},
		Locate: locateCentrifugo,
	}
}

func connectCommand(c *Client, handshakeToken bool) []byte {
	b := append(make([]byte, 0, 512), `{"id":1,"connect":{`...)
	if !handshakeToken {
		b = append(append(append(b, `"token":"`...), c.Token...), '"')
	}
	if c.Known {
		if !handshakeToken {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `"subs":{"#`...), int64(c.User), 10)
		b = append(append(append(b, `":{"recover":true,"epoch":"`...), c.Epoch...), '"')
		if c.Offset > 0 {
			b = strconv.AppendUint(append(b, `,"offset":`...), c.Offset, 10)
		}
		b = append(b, `}}`...)
	}
	return append(b, `}}`...)
}

// locateCentrifugo reads the position of the personal channel from a connect
// reply, or from a publication in it.
func locateCentrifugo(c *Client, payload []byte) {
	i := bytes.Index(payload, strconv.AppendInt([]byte(`"#`), int64(c.User), 10))
	if i < 0 {
		return
	}
	rest := payload[i:]
	if e := after(rest, `"epoch":"`); e != nil {
		if end := bytes.IndexByte(e, '"'); end >= 0 {
			c.Epoch, c.Known = string(e[:end]), true
		}
	}
	if o, ok := leadingInt(after(rest, `"offset":`)); ok {
		c.Offset = uint64(o)
	}
}

// after returns what follows key in b, nil if key is not there.
func after(b []byte, key string) []byte {
	i := bytes.Index(b, []byte(key))
	if i < 0 {
		return nil
	}
	return b[i+len(key):]
}

// SocketIO is the WebSocket transport of Engine.IO 4 with Socket.IO 5 on it,
// as far as one default namespace needs.
func SocketIO() Dialect {
	return Dialect{
		Request: func(dst []byte, _ *Client) []byte { return append(dst, "/socket.io/?EIO=4&transport=websocket"...) },
		Greet: func(c *Client, payload []byte) ([]byte, bool) {
			switch {
			case len(payload) > 0 && payload[0] == '0':
				return append(append([]byte(`40{"token":"`), c.Token...), `"}`...), false
			case bytes.HasPrefix(payload, []byte("40")):
				return nil, true
			}
			return nil, false
		},
		Pong: func(payload []byte) []byte {
			if len(payload) == 1 && payload[0] == '2' {
				return []byte("3")
			}
			return nil
		},
	}
}

// Nchan is a subscriber of nginx's nchan module: one location for every user,
// the channel in the path. It has no token.
func Nchan() Dialect {
	return Dialect{Request: func(dst []byte, c *Client) []byte {
		return strconv.AppendInt(append(dst, "/sub/"...), int64(c.User), 10)
	}}
}
