package front_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"pushcluster/localstack/ferretdb/front"
)

// message returns a message of the wire protocol.
func message(op, flags uint32, body string) []byte {
	m := make([]byte, 20, 20+len(body))
	m = append(m, body...)
	binary.LittleEndian.PutUint32(m, uint32(len(m)))
	binary.LittleEndian.PutUint32(m[12:], op)
	binary.LittleEndian.PutUint32(m[16:], flags)
	return m
}

// TestOneAtATime has several clients ask a server that counts how many requests
// it holds at once. Every second request wants no reply.
func TestOneAtATime(t *testing.T) {
	backend := listen(t)
	var held, most atomic.Int32
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := backend.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				for {
					m, err := front.ReadMessage(conn)
					if err != nil {
						return
					}
					if m[16] != 0 {
						continue
					}
					if n := held.Add(1); n > most.Load() {
						most.Store(n)
					}
					held.Add(-1)
					if _, err := conn.Write(m); err != nil {
						return
					}
				}
			})
		}
	})

	l := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- front.New(backend.Addr().String()).Serve(ctx, l) }()

	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for range 200 {
				want := message(2013, 0, "hello")
				if _, err := conn.Write(append(message(2013, 2, "no reply"), want...)); err != nil {
					t.Error(err)
					return
				}
				got, err := front.ReadMessage(conn)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("reply %q, %v, want %q", got, err, want)
					return
				}
			}
		})
	}
	clients.Wait()
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve = %v, want nil after its context ended", err)
	}
	backend.Close()
	serving.Wait()
	if most.Load() != 1 {
		t.Errorf("the server held %d requests at once, want 1", most.Load())
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func FuzzReadMessage(f *testing.F) {
	f.Add(message(2013, 0, "body"))
	f.Add(message(2004, 0, "")[:16])
	f.Add([]byte{16, 0, 0, 0})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= 4 && binary.LittleEndian.Uint32(data) > 1<<20 {
			return // would only allocate
		}
		m, err := front.ReadMessage(bytes.NewReader(data))
		if err == nil && !bytes.HasPrefix(data, m) {
			t.Errorf("ReadMessage(%q) = %q, which is no part of it", data, m)
		}
	})
}
