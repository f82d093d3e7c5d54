package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/centrifugal/protocol"
	"github.com/gorilla/websocket"

	"pushcluster/pushnode/hub"
)

// A codec is one of the two encodings of the client protocol. A packet is one
// encoded reply or push in the form in which packets are joined into a frame.
type codec struct {
	name        string
	messageType int    // of WebSocket frames
	separator   string // between two packets
	ping        []byte // the packet of a protocol ping
	encode      func(*protocol.Reply) ([]byte, error)
	welcome     func(*welcome, []byte) ([]byte, error) // appends a packet
	publication func(*hub.Publication) ([]byte, error)
	decoder     func(frame []byte) protocol.CommandDecoder
	nested      func(frame []byte, most int) bool // see maxNesting
}

var (
	codecJSON = &codec{
		name: "json", messageType: websocket.TextMessage, separator: "\n", ping: []byte("{}"),
		encode:      protocol.DefaultJsonReplyEncoder.Encode,
		welcome:     (*welcome).appendJSON,
		publication: (*hub.Publication).JSON,
		decoder: func(frame []byte) protocol.CommandDecoder {
			return protocol.NewJSONCommandDecoder(frame)
		},
		nested: jsonNested,
	}
	codecProtobuf = &codec{
		name: "protobuf", messageType: websocket.BinaryMessage, ping: []byte{0},
		encode:      encodeProtobuf,
		welcome:     (*welcome).appendProtobuf,
		publication: (*hub.Publication).Protobuf,
		decoder: func(frame []byte) protocol.CommandDecoder {
			return protocol.NewProtobufCommandDecoder(frame)
		},
		nested: protobufNested,
	}
)

func encodeProtobuf(r *protocol.Reply) ([]byte, error) {
	body, err := protocol.DefaultProtobufReplyEncoder.Encode(r)
	if err != nil {
		return nil, err
	}
	return append(binary.AppendUvarint(make([]byte, 0, len(body)+3), uint64(len(body))), body...), nil
}

var (
	errEmptyFrame = errors.New("frame holds no command")
	errNesting    = errors.New("frame is nested too deeply")
)

// maxCommands is how many commands one frame may hold. SDKs send one connect
// and one subscribe per topic, of which a connection may have 128.
const maxCommands = 512

// decodeCommands returns the commands of a frame. An error means that the frame
// is not of the protocol, and then no command counts.
func (c *codec) decodeCommands(frame []byte) ([]*protocol.Command, error) {
	if c.messageType == websocket.TextMessage {
		frame = bytes.TrimRight(frame, "\r\n")
	}
	if len(frame) == 0 {
		return nil, errEmptyFrame
	}
	if c.nested(frame, maxNesting) {
		return nil, errNesting
	}
	decoder := c.decoder(frame)
	var commands []*protocol.Command
	for {
		cmd, err := decoder.Decode()
		if cmd != nil {
			if len(commands) == maxCommands {
				return nil, errors.New("too many commands in one frame")
			}
			commands = append(commands, cmd)
		}
		switch {
		case errors.Is(err, io.EOF) && len(commands) > 0:
			return commands, nil
		case err != nil:
			return nil, err
		}
	}
}
