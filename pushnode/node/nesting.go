package node

import (
	"bytes"
	"encoding/binary"
)

// maxNesting is how deeply the objects and arrays of a JSON command, or the tag
// filters of a Protobuf one, may lie in one another. The decoders of package
// protocol go down into them by recursion: a frame of brackets alone would take
// 32 MiB of stack and a fifth of a second, and needs no token.
const maxNesting = 128

// jsonNested reports whether a line of frame has more than most objects and
// arrays in one another, as far as it is JSON.
func jsonNested(frame []byte, most int) bool {
	if bytes.Count(frame, []byte{'{'})+bytes.Count(frame, []byte{'['}) <= most {
		return false // as nearly all frames
	}
	depth, quoted := 0, false
	for i := 0; i < len(frame); i++ {
		switch b := frame[i]; {
		case b == '\n': // each line is decoded by itself
			depth, quoted = 0, false
		case quoted && b == '\\' && i+1 < len(frame) && frame[i+1] != '\n':
			i++
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '{' || b == '[':
			if depth++; depth > most {
				return true
			}
		case b == '}' || b == ']':
			depth--
		}
	}
	return false
}

// The fields of a Protobuf command that lead to what may hold itself.
const (
	fieldSubscribe = 5  // of a command
	fieldFilter    = 13 // of a subscribe command
	fieldNodes     = 6  // of a filter: more of them
)

// protobufNested reports whether a command of frame has more than most filters in
// one another, or is not what an encoder writes.
func protobufNested(frame []byte, most int) bool {
	if len(frame) <= 2*most {
		return false // as most frames: a filter takes two bytes
	}
	for len(frame) > 0 {
		command, rest, ok := lengthDelimited(frame)
		if !ok || fieldsNested(command, []int32{fieldSubscribe, fieldFilter}, most) {
			return true
		}
		frame = rest
	}
	return false
}

// fieldsNested looks at a message for what protobufNested is about: first for the
// fields of path, one in another, and then for filters.
func fieldsNested(message []byte, path []int32, most int) bool {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 {
			return true
		}
		message = message[n:]
		var value []byte
		ok := true
		switch tag & 7 { // the kind of value
		case 0:
			_, n = binary.Uvarint(message)
			ok = n > 0
			message = message[max(0, n):]
		case 1:
			ok = len(message) >= 8
			message = message[min(8, len(message)):]
		case 2:
			value, message, ok = lengthDelimited(message)
		case 5:
			ok = len(message) >= 4
			message = message[min(4, len(message)):]
		default:
			ok = false
		}
		if !ok {
			return true
		}
		switch number := int32(tag >> 3); { // as the decoder cuts it
		case len(path) > 0 && number == path[0]:
			if fieldsNested(value, path[1:], most) {
				return true
			}
		case len(path) == 0 && number == fieldNodes:
			if most == 1 || fieldsNested(value, nil, most-1) {
				return true
			}
		}
	}
	return false
}

// lengthDelimited returns what lies behind its length at the beginning of b, and
// what follows.
func lengthDelimited(b []byte) (value, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, false
	}
	end := n + int(size)
	return b[n:end], b[end:], true
}
