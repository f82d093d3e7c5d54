package push

import (
	"encoding/binary"
	"fmt"
)

// A node's stream, GET /v1/node/stream: a WebSocket on its internal port, over
// which one Dispatch brings it entries, in the order of their batches. Each
// binary frame holds one or more batches, or the answers to some, each with its
// length before it:
//
//	batch   its number, 1 if the node shall compare its positions, else 0,
//	        how many messages, each with its length before it,
//	        how many entries, each a channel, its offset, how far its
//	        predecessor lies before that (0 for none), its message's index
//	answer  the number of the batch, a problem's code (an empty text if the
//	        batch was taken) and its detail, how many channels are not here,
//	        and these
//
// Numbers are the sender's; each names one batch of a stream. The node answers
// every batch, in order, unless the stream ends.

// MaxStreamFrame bounds a frame of a node's stream, in bytes: a batch of 10,000
// entries of one large message, or of many small ones.
const MaxStreamFrame = 16 << 20

// StreamPath is where a node serves its stream. The handshake names the node in
// the query's "node" and is signed over [StreamStatement].
const StreamPath = "/v1/node/stream"

// StreamStatement is what the signature of a stream's handshake vouches for, in
// the place of a body: that a stream to this very node is wanted.
func StreamStatement(node NodeID) []byte { return []byte("stream to " + string(node)) }

// AppendBatch appends a batch with its length before it. The request's Node is
// left out: the handshake has named it.
func AppendBatch(dst []byte, number uint64, req *DeliverRequest) []byte {
	dst, start := beginPart(dst)
	dst = binary.AppendUvarint(dst, number)
	if req.Beat {
		dst = append(dst, 1)
	} else {
		dst = append(dst, 0)
	}
	dst = binary.AppendUvarint(dst, uint64(len(req.Messages)))
	for i := range req.Messages {
		var at int
		dst, at = beginPart(dst)
		dst = endPart(AppendMessage(dst, &req.Messages[i], true), at)
	}
	dst = binary.AppendUvarint(dst, uint64(len(req.Entries)))
	for i := range req.Entries {
		e := &req.Entries[i]
		dst = appendText(dst, string(e.Channel))
		dst = binary.AppendUvarint(dst, uint64(e.Offset))
		back := Offset(0)
		if e.Prev != 0 && e.Prev < e.Offset {
			back = e.Offset - e.Prev
		}
		dst = binary.AppendUvarint(dst, uint64(back))
		dst = binary.AppendUvarint(dst, uint64(e.Message))
	}
	return endPart(dst, start)
}

// partHead is how many bytes the length of a part takes: always as many, so that
// it can be written when the part is.
const partHead = 4

func beginPart(dst []byte) ([]byte, int) {
	return append(dst, 0, 0, 0, 0), len(dst)
}

func endPart(dst []byte, start int) []byte {
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-partHead))
	return dst
}

// NextPart takes the first batch or answer off a frame and returns what follows
// it.
func NextPart(frame []byte) (part, rest []byte, err error) {
	if len(frame) < partHead {
		return nil, nil, fmt.Errorf("frame: %w", ErrBinary)
	}
	n := binary.BigEndian.Uint32(frame)
	if uint64(n) > uint64(len(frame)-partHead) {
		return nil, nil, fmt.Errorf("frame: %w", ErrBinary)
	}
	return frame[partHead : partHead+n : partHead+n], frame[partHead+n:], nil
}

// DecodeBatch reads one batch into req, whose slices it uses again, and for which
// it needs no other memory: data, texts and names are parts of b. So whoever
// keeps any of them beyond the next change of b keeps a copy. Every entry's
// message is one of the request. An error wraps [ErrBinary].
func DecodeBatch(b []byte, req *DeliverRequest) (number uint64, err error) {
	r := reader{b: b}
	number = r.uvarint()
	req.Beat = r.uvarint() == 1
	n := r.count(partHead + 9)
	req.Messages = resize(req.Messages, n)
	for i := range n {
		part, rest, err := NextPart(b[r.at:])
		if err != nil {
			return 0, err
		}
		r.at = len(b) - len(rest)
		m := &req.Messages[i]
		end, err := decodeHead(part, m, borrowed)
		if err != nil {
			return 0, err
		}
		if end < len(part) {
			m.Data = part[end:len(part):len(part)]
		}
	}
	n = r.count(4)
	req.Entries = resize(req.Entries, n)
	for i := range n {
		name := r.text()
		e := DeliverEntry{Offset: Offset(r.uvarint())}
		back := Offset(r.uvarint())
		message := r.uvarint()
		if r.bad || back > e.Offset || message >= uint64(len(req.Messages)) {
			return 0, fmt.Errorf("batch: %w", ErrBinary)
		}
		if e.Message = int(message); back > 0 {
			e.Prev = e.Offset - back
		}
		e.Channel = Channel(borrowed(b[name.from:name.to]))
		req.Entries[i] = e
	}
	if r.bad || r.at != len(b) {
		return 0, fmt.Errorf("batch: %w", ErrBinary)
	}
	return number, nil
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// A BatchAnswer is what a node made of one batch.
type BatchAnswer struct {
	Number  uint64
	Code    Code   // why it was refused; empty: it was taken
	Detail  string // for people, with Code
	Unknown []Channel
}

// AppendBatchAnswer appends a with its length before it.
func AppendBatchAnswer(dst []byte, a *BatchAnswer) []byte {
	dst, start := beginPart(dst)
	dst = binary.AppendUvarint(dst, a.Number)
	dst = appendText(dst, string(a.Code))
	dst = appendText(dst, a.Detail)
	dst = binary.AppendUvarint(dst, uint64(len(a.Unknown)))
	for _, c := range a.Unknown {
		dst = appendText(dst, string(c))
	}
	return endPart(dst, start)
}

// DecodeBatchAnswer reads one answer. An error wraps [ErrBinary].
func DecodeBatchAnswer(b []byte) (BatchAnswer, error) {
	r := reader{b: b}
	a := BatchAnswer{Number: r.uvarint()}
	code, detail := r.text(), r.text()
	n := r.count(1)
	if n > 0 {
		a.Unknown = make([]Channel, n)
	}
	for i := range n {
		name := r.text()
		a.Unknown[i] = Channel(b[name.from:name.to])
	}
	if r.bad || r.at != len(b) {
		return BatchAnswer{}, fmt.Errorf("answer: %w", ErrBinary)
	}
	a.Code, a.Detail = Code(b[code.from:code.to]), string(b[detail.from:detail.to])
	return a, nil
}
