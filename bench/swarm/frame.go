package swarm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Opcodes of WebSocket frames (RFC 6455).
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// maxFrame bounds the payload of a frame that a server sends, in bytes.
const maxFrame = 4 << 20

// A frame is one WebSocket frame from a server.
type frame struct {
	op      byte
	final   bool
	payload []byte // of the buffer that it was read from
}

var errMasked = errors.New("server masked a frame")

// nextFrame reads the frame that data begins with and returns its size with its
// header; 0 if data does not hold all of it.
func nextFrame(data []byte) (f frame, size int, err error) {
	if len(data) < 2 {
		return f, 0, nil
	}
	f.op, f.final = data[0]&0x0f, data[0]&0x80 != 0
	if data[0]&0x70 != 0 {
		return f, 0, errors.New("server used an extension that was not asked for")
	}
	if data[1]&0x80 != 0 {
		return f, 0, errMasked
	}
	head, length := 2, uint64(data[1])
	switch length {
	case 126:
		if head = 4; len(data) < head {
			return f, 0, nil
		}
		length = uint64(binary.BigEndian.Uint16(data[2:]))
	case 127:
		if head = 10; len(data) < head {
			return f, 0, nil
		}
		length = binary.BigEndian.Uint64(data[2:])
	}
	if length > maxFrame {
		return f, 0, fmt.Errorf("server sent a frame of %d bytes", length)
	}
	size = head + int(length)
	if len(data) < size {
		return f, 0, nil
	}
	f.payload = data[head:size:size]
	return f, size, nil
}

// appendFrame appends a frame of a client to dst. Its mask is zero, which is a
// mask as good as any to a server and costs a load generator nothing.
func appendFrame(dst []byte, op byte, payload []byte) []byte {
	dst = append(dst, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<16:
		dst = append(dst, 0x80|126, byte(n>>8), byte(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 0x80|127), uint64(n))
	}
	dst = append(dst, 0, 0, 0, 0)
	return append(dst, payload...)
}
