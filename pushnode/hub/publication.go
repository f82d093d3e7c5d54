package hub

import (
	"time"

	"github.com/centrifugal/protocol"

	"pushcluster/shared/push"
)

// A Publication is an entry on its way to clients, or several of one channel by
// rising offset. It is encoded once per codec whatever the number of connections,
// and shared by all of them, one after another.
type Publication struct {
	push.Entry // the last of them

	before []push.Entry // those before it, of several
	brief  bool         // it is used again, and the memory of what is encoded too

	json, protobuf encoded
}

type encoded struct {
	done  bool
	frame []byte
	err   error
}

func newGroup(entries []push.Entry) *Publication {
	last := len(entries) - 1
	return &Publication{Entry: entries[last], before: entries[:last]}
}

// JSON returns the push as one line of the JSON protocol, or those of several
// entries as a line each, without a newline at the end. It fails where the data
// is no JSON.
func (p *Publication) JSON() ([]byte, error) {
	if !p.json.done {
		p.json.done = true
		p.json.frame, p.json.err = p.join(p.json.frame[:0], "\n", appendJSON)
	}
	return p.json.frame, p.json.err
}

// Protobuf returns the push of the Protobuf protocol, with its length before it,
// or those of several entries one behind another.
func (p *Publication) Protobuf() ([]byte, error) {
	if !p.protobuf.done {
		p.protobuf.done = true
		p.protobuf.frame, p.protobuf.err = p.join(p.protobuf.frame[:0], "", appendProtobuf)
	}
	return p.protobuf.frame, p.protobuf.err
}

// join appends what encode makes of each entry to b.
func (p *Publication) join(b []byte, separator string, encode func([]byte, *push.Entry) ([]byte, error)) ([]byte, error) {
	for i := range p.before {
		var err error
		if b, err = encode(b, &p.before[i]); err != nil {
			return b, err
		}
		b = append(b, separator...)
	}
	return encode(b, &p.Entry)
}

// Brief reports whether what the publication is encoded to is its own only until
// Publish returns: whoever needs it longer keeps a copy.
func (p *Publication) Brief() bool { return p.brief }

// first returns the offset of the first entry.
func (p *Publication) first() push.Offset {
	if len(p.before) > 0 {
		return p.before[0].Offset
	}
	return p.Offset
}

// brief returns a publication of e that [Hub.dispose] takes back.
func (h *Hub) brief(e push.Entry) *Publication {
	p, ok := h.publications.Get().(*Publication)
	if !ok {
		p = &Publication{brief: true}
	}
	p.Entry = e
	return p
}

// maxKeptPush is the largest encoded push whose memory is used again.
const maxKeptPush = 4 << 10

func (h *Hub) dispose(p *Publication) {
	p.Entry = push.Entry{}
	for _, e := range []*encoded{&p.json, &p.protobuf} {
		e.done, e.err = false, nil
		if cap(e.frame) > maxKeptPush {
			e.frame = nil
		}
	}
	h.publications.Put(p)
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
