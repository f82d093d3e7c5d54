package hub

import (
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

// JSON returns the push as one line of the JSON protocol, without newline. It
// fails where the data is no JSON.
func (p *Publication) JSON() ([]byte, error) {
	p.json.once.Do(func() { p.json.frame, p.json.err = encodeJSON(&p.Entry) })
	return p.json.frame, p.json.err
}

// Protobuf returns the push of the Protobuf protocol, with its length before it.
func (p *Publication) Protobuf() ([]byte, error) {
	p.protobuf.once.Do(func() { p.protobuf.frame = encodeProtobuf(&p.Entry) })
	return p.protobuf.frame, p.protobuf.err
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
