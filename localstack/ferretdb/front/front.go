// Package front stands between MongoDB clients and FerretDB v1 and lets one
// command pass at a time.
//
// FerretDB v1 reads the documents of an update and then writes them, and
// nothing holds others off between the two: of two updates at once one may be
// lost, and a compare-and-set may succeed twice. MongoDB promises that an update
// of one document is atomic, and our stores rely on it. One command at a time
// restores that promise.
package front

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Sizes of the wire protocol, in bytes.
const (
	headerSize = 16
	maxMessage = 48_000_000 + 16<<10 // what MongoDB accepts
)

// Facts of the wire protocol.
const (
	opMsg          = 2013
	flagMoreToCome = 1 << 1 // of OP_MSG: whoever sends it waits for no reply
)

// A Front forwards connections to one server.
type Front struct {
	backend string // host:port

	turn sync.Mutex // held while a command is with the server

	mu    sync.Mutex // guards what follows
	conns map[net.Conn]bool
	over  bool
}

// New returns a front of the server at backend, a TCP host:port.
func New(backend string) *Front { return &Front{backend: backend, conns: make(map[net.Conn]bool)} }

// Serve forwards the connections that l accepts until ctx ends. It closes l,
// and returns when every connection is closed.
func (f *Front) Serve(ctx context.Context, l net.Listener) error {
	var all sync.WaitGroup
	defer all.Wait()
	defer context.AfterFunc(ctx, func() {
		_ = l.Close()
		f.closeAll()
	})()
	for {
		client, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = client.Close()
			}
			return nil
		}
		if err != nil {
			f.closeAll()
			return fmt.Errorf("accept: %w", err)
		}
		all.Go(func() { f.serve(ctx, client) })
	}
}

// serve forwards one connection until either side ends it.
func (f *Front) serve(ctx context.Context, client net.Conn) {
	defer f.forget(client)
	if !f.remember(client) {
		return
	}
	var dialer net.Dialer
	server, err := dialer.DialContext(ctx, "tcp", f.backend)
	if err != nil {
		return
	}
	defer f.forget(server)
	if !f.remember(server) {
		return
	}
	for {
		request, err := ReadMessage(client)
		if err != nil {
			return
		}
		reply, err := f.ask(server, request)
		if err != nil {
			return
		}
		if _, err := client.Write(reply); err != nil {
			return
		}
	}
}

// ask hands request to server and returns its reply, empty if none is due.
func (f *Front) ask(server net.Conn, request []byte) ([]byte, error) {
	f.turn.Lock()
	defer f.turn.Unlock()
	if _, err := server.Write(request); err != nil {
		return nil, err
	}
	if !wantsReply(request) {
		return nil, nil
	}
	return ReadMessage(server)
}

// wantsReply reports whether the server answers request.
func wantsReply(request []byte) bool {
	if binary.LittleEndian.Uint32(request[12:]) != opMsg || len(request) < headerSize+4 {
		return true
	}
	return binary.LittleEndian.Uint32(request[headerSize:])&flagMoreToCome == 0
}

// ReadMessage reads one message of the wire protocol: a header that begins with
// the length of all, and the rest.
func ReadMessage(r io.Reader) ([]byte, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(header[:])
	if size < headerSize || size > maxMessage {
		return nil, errors.New("a message's length is out of range")
	}
	message := make([]byte, size)
	copy(message, header[:])
	if _, err := io.ReadFull(r, message[headerSize:]); err != nil {
		return nil, fmt.Errorf("read the rest of a message: %w", err)
	}
	return message, nil
}

// remember notes an open connection; false means that all is over.
func (f *Front) remember(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[c] = true
	return !f.over
}

func (f *Front) forget(c net.Conn) {
	f.mu.Lock()
	delete(f.conns, c)
	f.mu.Unlock()
	_ = c.Close()
}

func (f *Front) closeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	for c := range f.conns {
		_ = c.Close()
	}
}
