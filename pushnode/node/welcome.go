package node

import (
	"encoding/hex"
	"strconv"

	"github.com/centrifugal/protocol"
	"github.com/google/uuid"

	"pushcluster/pushnode/hub"
	"pushcluster/shared/push"
)

// A welcome is the reply to a connect command that succeeded. Every connection
// gets one, so it is written as JSON by hand, without the structs and the map of
// package protocol; a fuzz test holds it against that package.
type welcome struct {
	command uint32 // its id
	client  uuid.UUID
	version string
	expires bool
	ttl     uint32 // seconds; with expires
	ping    uint32 // seconds
	epoch   string
	joins   []*join
}

// reply returns w as the client protocol has it.
func (w *welcome) reply() *protocol.Reply {
	subs := make(map[string]*protocol.SubscribeResult, len(w.joins))
	for _, j := range w.joins {
		subs[string(j.name)] = j.result(w.epoch)
	}
	return &protocol.Reply{Id: w.command, Connect: &protocol.ConnectResult{
		Client: w.client.String(), Version: w.version, Expires: w.expires, Ttl: w.ttl, Subs: subs, Ping: w.ping, Pong: true,
	}}
}

// appendJSON appends the reply as JSON, without a newline. It fails where the
// data of something that was missed is no JSON.
func (w *welcome) appendJSON(b []byte) (_ []byte, err error) {
	b = strconv.AppendUint(append(b, `{"id":`...), uint64(w.command), 10)
	b = appendUUID(append(b, `,"connect":{"client":"`...), w.client)
	b = hub.AppendString(append(b, `","version":`...), w.version)
	if w.expires {
		b = append(b, `,"expires":true`...)
	}
	if w.ttl != 0 {
		b = strconv.AppendUint(append(b, `,"ttl":`...), uint64(w.ttl), 10)
	}
	b = append(b, `,"subs":{`...)
	for i, j := range w.joins {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(hub.AppendString(b, string(j.name)), ':')
		if b, err = j.appendJSON(b, w.epoch); err != nil {
			return b, err
		}
	}
	b = append(b, '}')
	if w.ping != 0 {
		b = strconv.AppendUint(append(b, `,"ping":`...), uint64(w.ping), 10)
	}
	return append(b, `,"pong":true}}`...), nil
}

// appendProtobuf appends the reply as Protobuf, with its length before it.
func (w *welcome) appendProtobuf(b []byte) ([]byte, error) {
	packet, err := encodeProtobuf(w.reply())
	return append(b, packet...), err
}

// appendUUID appends id as text, in RFC 9562's form.
func appendUUID(b []byte, id uuid.UUID) []byte {
	b = append(hex.AppendEncode(b, id[:4]), '-')
	b = append(hex.AppendEncode(b, id[4:6]), '-')
	b = append(hex.AppendEncode(b, id[6:8]), '-')
	b = append(hex.AppendEncode(b, id[8:10]), '-')
	return hex.AppendEncode(b, id[10:])
}

// result returns what the client is told of the subscription.
func (j *join) result(epoch string) *protocol.SubscribeResult {
	r := &protocol.SubscribeResult{
		Recoverable: true, Positioned: true, Epoch: epoch, Offset: uint64(j.start), Recovered: j.recovered, WasRecovering: j.recovering,
	}
	for _, e := range j.missed {
		r.Publications = append(r.Publications, hub.Wire(e))
	}
	return r
}

// appendJSON appends the result as JSON.
func (j *join) appendJSON(b []byte, epoch string) (_ []byte, err error) {
	b = hub.AppendString(append(b, `{"recoverable":true,"epoch":`...), epoch)
	for i := range j.missed {
		if i == 0 {
			b = append(b, `,"publications":[`...)
		} else {
			b = append(b, ',')
		}
		if b, err = hub.AppendJSON(b, &j.missed[i]); err != nil {
			return b, err
		}
	}
	if len(j.missed) > 0 {
		b = append(b, ']')
	}
	if j.recovered {
		b = append(b, `,"recovered":true`...)
	}
	if j.start != 0 {
		b = strconv.AppendUint(append(b, `,"offset":`...), uint64(j.start), 10)
	}
	b = append(b, `,"positioned":true`...)
	if j.recovering {
		b = append(b, `,"was_recovering":true`...)
	}
	return append(b, '}'), nil
}

// welcome sends the reply to connect.
func (c *client) welcome(w *welcome) {
	buffer := frameBuffers.Get().(*[]byte)
	packet, err := c.codec.welcome(w, (*buffer)[:0])
	if err == nil {
		c.sendPacket(packet, true)
	} else {
		c.node.log.Error("reply cannot be encoded", "client", c.id.String(), "err", err)
		c.close(push.CloseInternal)
	}
	if cap(packet) <= maxKeptFrame {
		*buffer = packet
		frameBuffers.Put(buffer)
	}
}
