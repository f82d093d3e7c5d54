package push

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
	"unsafe"
)

// The binary form of messages and of what goes over a node's stream. A number is
// a varint of encoding/binary. A text is its length and its bytes. A time is its
// nanoseconds + 1 and then its seconds since 1970; 0 alone is the zero time.
//
//	message  1, the id's length in two bytes (big-endian), the id, created_at,
//	         expires_at, deliver_at, event, collapse_key, trace, and to the
//	         end data
//
// The id stands where the append script of package registry finds it with the
// little that Lua offers.

// ErrBinary means that bytes are not the binary form of what they should be.
var ErrBinary = errors.New("not in the binary form")

const messageVersion = 1

// AppendMessage appends m in binary, without its recipients, and without its
// data unless withData. An id of more than 65,535 bytes is cut; nothing accepts
// one of more than [MaxMessageID].
func AppendMessage(dst []byte, m *Message, withData bool) []byte {
	id := m.ID[:min(len(m.ID), math.MaxUint16)]
	dst = append(dst, messageVersion)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(id)))
	dst = append(dst, id...)
	dst = appendTime(dst, m.CreatedAt)
	dst = appendTime(dst, m.ExpiresAt)
	dst = appendTime(dst, m.DeliverAt)
	dst = appendText(dst, m.Event)
	dst = appendText(dst, m.CollapseKey)
	dst = appendText(dst, m.Trace)
	if withData {
		dst = append(dst, m.Data...)
	}
	return dst
}

// DecodeMessage reads into m what [AppendMessage] wrote. Its data is part of b,
// which must not be modified while m is in use; its texts are not. After an
// error, which wraps [ErrBinary], what m holds is not defined.
func DecodeMessage(b []byte, m *Message) error {
	end, err := decodeHead(b, m, func(head []byte) string { return string(head) }) // one piece of memory for all texts
	if err == nil && end < len(b) {
		m.Data = b[end:len(b):len(b)]
	}
	return err
}

// decodeHead reads what comes before data, whose texts are parts of what text
// makes of that, and returns where it ends.
func decodeHead(b []byte, m *Message, text func([]byte) string) (end int, err error) {
	if len(b) < 3 || b[0] != messageVersion {
		return 0, fmt.Errorf("message: %w", ErrBinary)
	}
	r := reader{b: b, at: 3}
	*m = Message{}
	id := r.span(uint64(binary.BigEndian.Uint16(b[1:])))
	m.CreatedAt, m.ExpiresAt, m.DeliverAt = r.time(), r.time(), r.time()
	event, collapse, trace := r.text(), r.text(), r.text()
	if r.bad {
		return 0, fmt.Errorf("message: %w", ErrBinary)
	}
	head := text(b[:r.at])
	m.ID = MessageID(id.of(head))
	m.Event, m.CollapseKey, m.Trace = event.of(head), collapse.of(head), trace.of(head)
	return r.at, nil
}

// borrowed returns b as a text that changes with it.
func borrowed(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func appendTime(dst []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(t.Nanosecond())+1)
	return binary.AppendVarint(dst, t.Unix())
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// A span is a part of what a reader reads.
type span struct{ from, to int }

func (s span) of(text string) string { return text[s.from:s.to] }

// A reader reads the binary form. Once something is wrong it is bad, and what it
// returns is zero.
type reader struct {
	b   []byte
	at  int
	bad bool
}

func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.b[r.at:])
	if size <= 0 {
		r.bad = true
		return 0
	}
	r.at += size
	return n
}

func (r *reader) varint() int64 {
	n, size := binary.Varint(r.b[r.at:])
	if size <= 0 {
		r.bad = true
		return 0
	}
	r.at += size
	return n
}

// count reads how many of something follow, of which each has least bytes or
// more: so no number makes anybody allocate more than was sent.
func (r *reader) count(least int) int {
	n := r.uvarint()
	if n > uint64((len(r.b)-r.at)/least) {
		r.bad = true
		return 0
	}
	return int(n)
}

// span takes the next n bytes.
func (r *reader) span(n uint64) span {
	if n > uint64(len(r.b)-r.at) {
		r.bad = true
		return span{}
	}
	s := span{r.at, r.at + int(n)}
	r.at = s.to
	return s
}

func (r *reader) text() span { return r.span(r.uvarint()) }

func (r *reader) time() time.Time {
	nanos := r.uvarint()
	if nanos == 0 {
		return time.Time{}
	}
	seconds := r.varint()
	if nanos > uint64(time.Second) {
		r.bad = true
	}
	if r.bad {
		return time.Time{}
	}
	return time.Unix(seconds, int64(nanos-1)).UTC()
}
