package node

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// A recorded is a connection whose peer has said everything already.
type recorded struct {
	net.Conn
	said    io.Reader
	answers bytes.Buffer
}

func (r *recorded) Read(p []byte) (int, error)  { return r.said.Read(p) }
func (r *recorded) Write(p []byte) (int, error) { return r.answers.Write(p) }
func (r *recorded) Close() error                { return nil }

func (r *recorded) SetDeadline(time.Time) error      { return nil }
func (r *recorded) SetWriteDeadline(time.Time) error { return nil }

// heardControl answers as gorilla does by itself (peer).
func (r *recorded) heardControl(messageType, code int, data string) {
	switch messageType {
	case websocket.PingMessage:
		r.answer(websocket.PongMessage, []byte(data))
	case websocket.CloseMessage:
		r.answer(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""))
	}
}

func (r *recorded) answer(messageType int, data []byte) {
	r.answers.Write(append(appendFrameHeader(nil, messageType, len(data)), data...))
}

// writeFault writes what gorilla answers (peer).
func (r *recorded) writeFault(frame []byte) (int, error) { return r.answers.Write(frame) }

// A hijacked hands a connection to the upgrader.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn
	rw   *bufio.ReadWriter
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.conn, h.rw, nil }

// webSocket returns gorilla's end of conn, which reads from r.
func webSocket(t testing.TB, conn net.Conn, r *bufio.Reader) *websocket.Conn {
	t.Helper()
	req := &http.Request{Method: http.MethodGet, Header: http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}}
	u := websocket.Upgrader{}
	ws, err := u.Upgrade(hijacked{conn: conn, rw: bufio.NewReadWriter(r, bufio.NewWriter(io.Discard))}, req, nil)
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(frameLimit)
	return ws
}

const frameLimit = 1000

// A conversation is what was heard of a peer.
type conversation struct {
	heard []heard
	end   string
}

// byGorilla reads a stream as gorilla does by itself.
func byGorilla(t testing.TB, stream []byte) (conversation, []byte) {
	conn := &recorded{said: bytes.NewReader(stream)}
	ws := webSocket(t, conn, bufio.NewReaderSize(conn, 512))
	conn.answers.Reset()
	var c conversation
	for {
		messageType, message, err := ws.ReadMessage()
		if err != nil {
			c.end = err.Error()
			return c, conn.answers.Bytes()
		}
		c.heard = append(c.heard, heard{messageType, message})
	}
}

// byIntake reads a stream that comes in chunks of so many bytes.
func byIntake(t testing.TB, stream []byte, chunk int) (conversation, []byte) {
	conn := &recorded{}
	in := newIntake()
	var c conversation
	var p *partial
	var kept []byte
	for len(stream) > 0 {
		n := min(chunk, len(stream))
		kept = append(kept, stream[:n]...)
		stream = stream[n:]
		for {
			size, m, err := in.next(conn, &p, frameLimit, kept)
			if err != nil {
				c.end = err.Error()
				return c, conn.answers.Bytes()
			}
			if m != nil {
				c.heard = append(c.heard, *m)
			}
			if size == 0 {
				break
			}
			kept = kept[size:]
		}
	}
	return c, conn.answers.Bytes()
}

// clientFrame returns a frame as a client sends it, masked with zeros.
func clientFrame(first byte, payload string) string {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, maskBit|byte(n))
	default:
		b = append(b, maskBit|126, byte(n>>8), byte(n))
	}
	return string(append(b, 0, 0, 0, 0)) + payload
}

// Whatever comes, in whatever pieces, is heard as gorilla hears it that reads
// from a connection by itself.
func FuzzIntake(f *testing.F) {
	long := strings.Repeat("x", 300)
	for _, stream := range []string{
		clientFrame(0x81, "{}"),
		clientFrame(0x81, "{}") + clientFrame(0x82, long) + clientFrame(0x81, ""),
		clientFrame(0x01, "a") + clientFrame(0x00, "b") + clientFrame(0x80, "c") + clientFrame(0x81, "d"),
		clientFrame(0x01, "a") + clientFrame(0x89, "ping") + clientFrame(0x00, "") + clientFrame(0x80, "") + clientFrame(0x81, "d"),
		clientFrame(0x89, "ping") + clientFrame(0x8a, "pong") + clientFrame(0x88, "\x03\xe8bye"),
		clientFrame(0x01, long) + clientFrame(0x00, long) + clientFrame(0x00, long) + clientFrame(0x80, long),
		clientFrame(0x81, long+long+long+long),
		clientFrame(0x80, "continues nothing"),
		clientFrame(0x01, "a") + clientFrame(0x81, "starts again"),
		clientFrame(0x83, "odd opcode"), clientFrame(0xc1, "odd bit"), clientFrame(0x09, "no final ping"), clientFrame(0x89, long),
		"\x81\x02ab", "\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", clientFrame(0x88, "\x00"), clientFrame(0x88, "\x00\x01"),
	} {
		f.Add([]byte(stream), 7)
		f.Add([]byte(stream), 4096)
	}
	f.Fuzz(func(t *testing.T, stream []byte, chunk int) {
		want, wantAnswers := byGorilla(t, stream)
		got, answers := byIntake(t, stream, max(1, chunk))
		if got.end == errFragments.Error() {
			return // a bound of ours
		}
		for i := range max(len(got.heard), len(want.heard)) {
			if i >= len(got.heard) || i >= len(want.heard) || got.heard[i].messageType != want.heard[i].messageType ||
				!bytes.Equal(got.heard[i].message, want.heard[i].message) {
				t.Fatalf("stream %q in %d: heard %v, want %v", stream, chunk, got.heard, want.heard)
			}
		}
		unfinished := got.end == "" // where gorilla misses the rest of a frame, we wait for it
		if !unfinished && got.end != want.end {
			t.Errorf("stream %q in %d: ended with %q, want %q", stream, chunk, got.end, want.end)
		}
		if !bytes.Equal(answers, wantAnswers) && !(unfinished && bytes.HasPrefix(wantAnswers, answers)) {
			t.Errorf("stream %q in %d: answered %q, want %q", stream, chunk, answers, wantAnswers)
		}
	})
}

func TestMessageInTooManyFrames(t *testing.T) {
	in := newIntake()
	var p *partial
	frame := []byte(clientFrame(0x01, "x"))
	for range 2 * maxFragments / len(frame) {
		if _, _, err := in.next(&recorded{}, &p, 1<<20, frame); err != nil {
			if !errors.Is(err, errFragments) {
				t.Errorf("ended with %v, want %v", err, errFragments)
			}
			return
		}
		frame = []byte(clientFrame(0x00, ""))
	}
	t.Error("a message in many empty frames was kept without bound")
}
