package hub

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/centrifugal/protocol"

	"pushcluster/shared/push"
)

// A Publication is an entry on its way to clients. It is encoded once per codec
// whatever the number of connections, and shared by all of them.
type Publication struct {
	push.Entry

	json, protobuf encoded
}

type encoded struct {
	once  sync.Once
	frame []byte
	err   error
}

// JSON returns the push as one line of the JSON protocol, without newline.
func (p *Publication) JSON() ([]byte, error) {
	p.json.once.Do(func() {
		p.json.frame, p.json.err = protocol.DefaultJsonReplyEncoder.Encode(p.reply())
	})
	return p.json.frame, p.json.err
}

// Protobuf returns the push of the Protobuf protocol, with its length before it.
func (p *Publication) Protobuf() ([]byte, error) {
	p.protobuf.once.Do(func() {
		body, err := protocol.DefaultProtobufReplyEncoder.Encode(p.reply())
		if err != nil {
			p.protobuf.err = err
			return
		}
		p.protobuf.frame = append(binary.AppendUvarint(make([]byte, 0, len(body)+3), uint64(len(body))), body...)
	})
	return p.protobuf.frame, p.protobuf.err
}

func (p *Publication) reply() *protocol.Reply {
	return &protocol.Reply{Push: &protocol.Push{Channel: string(p.Channel), Pub: Wire(p.Entry)}}
}

// Wire returns e as the client protocol has it. Tags carry the message's id,
// event, creation time (RFC 3339) and traceparent.
func Wire(e push.Entry) *protocol.Publication {
	m := e.Message
	tags := map[string]string{"id": string(m.ID), "at": m.CreatedAt.UTC().Format(time.RFC3339Nano)}
	if m.Event != "" {
		tags["event"] = m.Event
	}
	if m.Trace != "" {
		tags["trace"] = m.Trace
	}
	return &protocol.Publication{Data: protocol.Raw(m.Data), Offset: uint64(e.Offset), Tags: tags}
}
