package node

import "encoding/binary"

// WebSocket frames (RFC 6455 section 5.2), as far as one must know them to see
// where they end and to write one. What they mean when they are read is
// gorilla's to say.

const (
	finalBit = 0x80
	maskBit  = 0x80

	reservedBits = 0x70

	opContinue = 0x0
	opBinary   = 0x2
	opControl  = 0x8 // this and larger are control frames
	opPong     = 0xa

	maxControl = 125 // bytes of a control frame's payload

	maxFrameHeader = 14
)

// A frameHead is what the beginning of a frame says.
type frameHead struct {
	header  int    // bytes before the payload, the mask included
	payload uint64 // bytes
	opcode  byte
	final   bool
	masked  bool
	odd     bool // has bits that nothing was agreed about
}

// control reports whether it is a control frame, which may come between the
// frames of a message.
func (h frameHead) control() bool { return h.opcode >= opControl }

// starts reports whether it is the first frame of a message.
func (h frameHead) starts() bool { return h.opcode != opContinue }

// sound reports whether a client may send such a frame at all.
func (h frameHead) sound() bool {
	switch {
	case h.odd, !h.masked, h.opcode > opPong, h.opcode > opBinary && h.opcode < opControl:
		return false
	}
	return !h.control() || h.final && h.payload <= maxControl
}

// readFrameHead reads the head of the frame that b begins with; ok is false if b
// ends before it does.
func readFrameHead(b []byte) (h frameHead, ok bool) {
	if len(b) < 2 {
		return h, false
	}
	h = frameHead{
		header: 2, payload: uint64(b[1] & 0x7f), opcode: b[0] & 0xf,
		final: b[0]&finalBit != 0, masked: b[1]&maskBit != 0, odd: b[0]&reservedBits != 0,
	}
	long := 0
	switch h.payload {
	case 126:
		long = 2
	case 127:
		long = 8
	}
	h.header += long
	if h.masked {
		h.header += 4
	}
	if len(b) < h.header {
		return h, false
	}
	switch long {
	case 2:
		h.payload = uint64(binary.BigEndian.Uint16(b[2:]))
	case 8:
		h.payload = binary.BigEndian.Uint64(b[2:])
	}
	return h, true
}

// appendFrameHeader appends the header of a frame that a server sends: final and
// not masked.
func appendFrameHeader(b []byte, opcode, size int) []byte {
	b = append(b, finalBit|byte(opcode))
	switch {
	case size < 126:
		return append(b, byte(size))
	case size < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(size))
}
