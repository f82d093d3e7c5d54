package hub

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/segmentio/encoding/json"

	"pushcluster/shared/push"
)

// The push of a publication is encoded by hand, without the map of tags and the
// structs of package protocol, which cost more than all else that a node does for
// a message but the write. A fuzz test holds it against that package.

var errNoJSON = errors.New("the data is no JSON")

// around is about how long a push is without its data, channel and texts.
const around = 128

// EncodedSize returns about how long the push of e is in JSON, which is longer
// than in Protobuf.
func EncodedSize(e *push.Entry) int {
	m := e.Message
	return around + len(m.Data) + len(e.Channel) + len(m.ID) + len(m.Event) + len(m.Trace)
}

// appendJSON appends the push of e as JSON, without newline.
func appendJSON(b []byte, e *push.Entry) ([]byte, error) {
	b = AppendString(append(slices.Grow(b, EncodedSize(e)), `{"push":{"channel":`...), string(e.Channel))
	b, err := AppendJSON(append(b, `,"pub":`...), e)
	return append(b, `}}`...), err
}

// AppendJSON appends e as a publication of the client protocol, as [Wire] has it,
// in JSON without a newline. It fails where the data is no JSON; then what was
// appended is of no use.
func AppendJSON(b []byte, e *push.Entry) ([]byte, error) {
	m := e.Message
	if !json.Valid(m.Data) {
		return b, errNoJSON
	}
	b = appendLine(append(b, `{"data":`...), m.Data)
	b = strconv.AppendUint(append(b, `,"offset":`...), uint64(e.Offset), 10)
	b = m.CreatedAt.UTC().AppendFormat(append(b, `,"tags":{"at":"`...), time.RFC3339Nano)
	b = AppendString(append(b, `","id":`...), string(m.ID))
	if m.Event != "" {
		b = AppendString(append(b, `,"event":`...), m.Event)
	}
	if m.Trace != "" {
		b = AppendString(append(b, `,"trace":`...), m.Trace)
	}
	return append(b, `}}`...), nil
}

// appendLine appends data, which is JSON, without its newlines: those lie between
// its tokens, and would end the line that a push is.
func appendLine(b, data []byte) []byte {
	for {
		at := bytes.IndexByte(data, '\n')
		if at < 0 {
			return append(b, data...)
		}
		b, data = append(b, data[:at]...), data[at+1:]
	}
}

// AppendString appends s as a string of JSON. What is not UTF-8 is replaced.
func AppendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0 // of what was not appended yet
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[start:i]...), `\ufffd`...)
				start = i + 1
			}
			i += size
			continue
		}
		if c < ' ' || c == '"' || c == '\\' {
			b = append(b, s[start:i]...)
			start = i + 1
			if c < ' ' {
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			} else {
				b = append(b, '\\', c)
			}
		}
		i++
	}
	return append(append(b, s[start:]...), '"')
}

// The fields of the protocol's messages, each with its wire type: 2, a length
// and bytes, but for the offset, which is a varint (0).
const (
	replyPush   = 4<<3 | 2
	pushChannel = 2<<3 | 2
	pushPub     = 4<<3 | 2
	pubData     = 4<<3 | 2
	pubOffset   = 6 << 3
	pubTags     = 7<<3 | 2
	tagKey      = 1<<3 | 2
	tagValue    = 2<<3 | 2
)

// appendProtobuf appends the push of e as Protobuf, with its length before it. It
// never fails.
func appendProtobuf(b []byte, e *push.Entry) ([]byte, error) {
	m := e.Message
	var room [40]byte
	at := m.CreatedAt.UTC().AppendFormat(room[:0], time.RFC3339Nano)
	tags := [...]struct {
		key   string
		value string
		bytes []byte // in the place of value
	}{{"at", "", at}, {"id", string(m.ID), nil}, {"event", m.Event, nil}, {"trace", m.Trace, nil}}

	sizes := [len(tags)]int{}
	pub := 0
	if len(m.Data) > 0 {
		pub += fieldSize(len(m.Data))
	}
	if e.Offset > 0 {
		pub += 1 + uvarintSize(uint64(e.Offset))
	}
	for i := range tags {
		if i < 2 || tags[i].value != "" { // at and id are always there
			sizes[i] = fieldSize(len(tags[i].key)) + fieldSize(len(tags[i].value)+len(tags[i].bytes))
			pub += fieldSize(sizes[i])
		}
	}
	body := fieldSize(pub)
	if e.Channel != "" {
		body += fieldSize(len(e.Channel))
	}
	whole := fieldSize(body)

	b = slices.Grow(b, uvarintSize(uint64(whole))+whole)
	b = binary.AppendUvarint(b, uint64(whole))
	b = appendField(b, replyPush, body)
	if e.Channel != "" {
		b = append(appendField(b, pushChannel, len(e.Channel)), e.Channel...)
	}
	b = appendField(b, pushPub, pub)
	if len(m.Data) > 0 {
		b = append(appendField(b, pubData, len(m.Data)), m.Data...)
	}
	if e.Offset > 0 {
		b = binary.AppendUvarint(append(b, pubOffset), uint64(e.Offset))
	}
	for i, t := range tags {
		if sizes[i] > 0 {
			b = appendField(b, pubTags, sizes[i])
			b = append(appendField(b, tagKey, len(t.key)), t.key...)
			b = append(append(appendField(b, tagValue, len(t.value)+len(t.bytes)), t.value...), t.bytes...)
		}
	}
	return b, nil
}

// appendField appends the tag of a field and how long it is.
func appendField(b []byte, tag byte, size int) []byte {
	return binary.AppendUvarint(append(b, tag), uint64(size))
}

// fieldSize returns how long a field of that many bytes is with what is before
// them.
func fieldSize(n int) int { return 1 + uvarintSize(uint64(n)) + n }

func uvarintSize(n uint64) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}
