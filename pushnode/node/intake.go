package node

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/gorilla/websocket"
)

// gorilla reads from a connection that blocks, keeps what it read too much in a
// buffer of its own, and is of no use any more after an error. None of that suits
// an event loop. So a client is given its bytes in whole messages: where they end
// is found here, what they mean is for gorilla, which reads them from an intake.
//
// Between two messages gorilla remembers nothing of a connection but that it has
// ended. So its WebSocket belongs to the intake, not to the connection, of which
// it would be a third.

// intakes is how many there are: enough that loops seldom meet at one. A client
// keeps the number of its own in a byte.
const intakes = 64

// intakeBuffer is larger than what gorilla would not take for its own.
const intakeBuffer = 512

// A peer is whose messages an intake reads.
type peer interface {
	// heardControl takes a control frame; code is that of a close frame. It must
	// not call the intake.
	heardControl(messageType, code int, data string)
	// writeFault sends the peer the frame by which gorilla tells what is wrong.
	writeFault(frame []byte) (int, error)
}

// An intake reads for many connections. It is empty between two messages, so one
// does for all of them.
type intake struct {
	mu    sync.Mutex // held while gorilla reads, and while it takes the buffer
	br    *bufio.Reader
	bw    *bufio.Writer
	parts [2][]byte       // what is to be read
	peer  peer            // whose that is; nil: nobody's
	ws    *websocket.Conn // nil: to be made
}

func newIntake() *intake {
	in := &intake{}
	in.br = bufio.NewReaderSize(in, intakeBuffer)
	in.bw = bufio.NewWriterSize(io.Discard, intakeBuffer)
	return in
}

// Read reads from the parts.
func (in *intake) Read(p []byte) (n int, err error) {
	for i := range in.parts {
		m := copy(p[n:], in.parts[i])
		in.parts[i] = in.parts[i][m:]
		n += m
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// A heard is a message that a client sent.
type heard struct {
	messageType int
	message     []byte
}

// next deals with the frame that b begins with, of a client that may send limit
// bytes in a message; what it keeps of one that goes on is in *p. It returns how
// many bytes of b that was, 0 where b does not hold all of it, and the message
// that ended with it, if one did. An error is gorilla's, which has told the
// peer, or errFragments; after one nothing more may be read.
func (in *intake) next(from peer, p **partial, limit int64, b []byte) (size int, m *heard, err error) {
	head, ok := readFrameHead(b)
	if !ok {
		return 0, nil, nil
	}
	var fragments []byte // of the message that goes on
	var sofar uint64     // bytes of it that came
	if *p != nil {
		fragments, sofar = (*p).fragments, (*p).payload
	}
	open := len(fragments) > 0
	if !head.sound() || !head.control() && (head.starts() == open || head.payload > uint64(limit) || sofar+head.payload > uint64(limit)) {
		return 0, nil, in.fault(from, limit, fragments, b[:head.header]) // gorilla says what is wrong
	}
	size = head.header + int(head.payload)
	switch {
	case len(b) < size:
		return 0, nil, nil
	case head.control():
		_, err := in.message(from, limit, 0, b[:size], nothing)
		return size, nil, err
	case !head.final:
		return size, nil, keepFragment(p, b[:size], head.payload)
	case !open:
		m, err = in.message(from, limit, int(head.payload), b[:size])
	default:
		m, err = in.message(from, limit, int(sofar+head.payload), fragments, b[:size])
		(*p).fragments, (*p).payload = fragments[:0], 0
	}
	return size, m, err
}

// message has gorilla read one message of that many bytes from the parts, which
// hold it and what comes before it.
func (in *intake) message(from peer, limit int64, size int, parts ...[]byte) (m *heard, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	ws, err := in.begin(from, limit, parts)
	if err != nil {
		return nil, err
	}
	defer func() { in.end(err) }()
	messageType, r, err := ws.NextReader()
	if err != nil {
		return nil, err
	}
	message := make([]byte, size)
	if _, err := io.ReadFull(r, message); err != nil {
		return nil, err
	}
	// Its end as well: an empty last frame belongs to it.
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("message does not end: %w", err)
	}
	return &heard{messageType, message}, nil
}

// fault has gorilla read what is no message, and returns what it says to that.
func (in *intake) fault(from peer, limit int64, parts ...[]byte) (err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	ws, err := in.begin(from, limit, parts)
	if err != nil {
		return err
	}
	defer func() { in.end(err) }()
	_, r, err := ws.NextReader()
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	if err == nil {
		err = errors.New("frame refused")
	}
	return err
}

// begin returns a WebSocket that reads parts as what from sent. in.mu is held.
func (in *intake) begin(from peer, limit int64, parts [][]byte) (*websocket.Conn, error) {
	if in.ws == nil {
		ws, err := in.newWebSocket()
		if err != nil {
			return nil, err
		}
		in.ws = ws
	}
	in.ws.SetReadLimit(limit)
	in.take(parts)
	in.peer = from
	return in.ws, nil
}

// end ends what begin began. After an error the WebSocket is of no use any more.
// in.mu is held.
func (in *intake) end(err error) {
	in.peer, in.parts = nil, [2][]byte{}
	if err != nil {
		in.ws = nil
	}
}

// take makes parts what is to be read. in.mu is held.
func (in *intake) take(parts [][]byte) {
	in.parts = [2][]byte{}
	copy(in.parts[:], parts)
	in.br.Reset(in)
}

// nothing is an empty message. gorilla does not return from a control frame
// before a message comes.
var nothing = []byte{finalBit | websocket.BinaryMessage, maskBit, 0, 0, 0, 0}

// A partial is what came of a message that is not whole.
type partial struct {
	bytes     []byte // less than a frame, or what could not be looked at yet
	fragments []byte // whole frames of a message that goes on
	payload   uint64 // bytes of the message in them
}

var partials = sync.Pool{New: func() any { return new(partial) }}

// maxKeptPartial is the largest buffer of a partial that is kept for another.
const maxKeptPartial = 4 << 10

// maxFragments bounds what a message in many small frames may take beyond its
// own bytes.
const maxFragments = 64 << 10

var errFragments = errors.New("message in too many frames")

// keepFragment keeps a frame of a message that goes on.
func keepFragment(to **partial, frame []byte, payload uint64) error {
	if *to == nil {
		*to = partials.Get().(*partial)
	}
	p := *to
	p.fragments = append(p.fragments, frame...)
	p.payload += payload
	if len(p.fragments) > int(p.payload)+maxFragments {
		return errFragments
	}
	return nil
}
