//go:build linux

package node

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"pushcluster/pushnode/loop"
)

// Small frames are as many as fit into a loop's buffer. The loop deals with some
// of them and is free for others; none is lost by that.
func TestManyFramesLeaveTheLoop(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	poller, err := loop.New()
	if err != nil {
		t.Fatal(err)
	}
	defer poller.Close()
	s, err := poller.Take(conn.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := crowd(t, 1)
	n.workers.running = &n.wg
	n.intakes[0] = newIntake()
	c := n.clients[0]
	c.codec, c.sock = codecJSON, pollSocket{s}
	if err := poller.Watch(s, c); err != nil {
		t.Fatal(err)
	}
	var pings, pongs []byte
	const count = 10_000
	for i := range count {
		data := string([]byte{byte(i >> 8), byte(i)})
		pings = append(pings, clientFrame(0x89, data)...)
		pongs = append(append(pongs, 0x8a, 2), data...)
	}
	last := []byte(clientFrame(0x89, "part of a frame"))
	pings = append(pings, last[:7]...)
	if got := c.take(pings, false); got != handedOver {
		t.Errorf("the loop took %d frames in one go", count)
	}
	answers := make([]byte, len(pongs))
	peer.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(peer, answers); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(answers, pongs) {
		t.Errorf("the answers to %d pings are others, or in another order", count)
	}
	n.workers.end()
	n.wg.Wait()
	if c.partial == nil || !bytes.Equal(c.partial.bytes, last[:7]) {
		t.Errorf("of the frame that had begun %+v is kept, want %q", c.partial, last[:7])
	}
}
