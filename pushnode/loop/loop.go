// Package loop waits for many sockets with few goroutines: an idle one costs a
// file descriptor and about a hundred bytes, not a goroutine and its stack.
//
// A [Poller] has some event loops, each with an epoll of its own. A [Socket] is
// a descriptor that never blocks. What came to read is announced to the socket's
// [Owner], which reads until there is no more; what the kernel did not take is
// kept and written when it does. Two rules keep descriptors from being mixed up:
// every read, write and close of a descriptor happens under its socket's lock,
// and a socket lets go of its number when it is closed. So nobody can write to
// the number when it is somebody else's.
//
// The package works on Linux; elsewhere [New] says that it does not.
package loop

import "errors"

// An Owner is told what happens on its socket.
type Owner interface {
	// Readable says that something may have come, or the peer has left. It runs
	// on an event loop and must not block; buf is the loop's, to read into until
	// Readable returns.
	//
	// With the call the owner has the right to read, which is nobody else's until
	// [Socket.Yield] gives it back; it may pass it on to another goroutine.
	Readable(buf []byte)
	// Drained says that all that waited has been written, after
	// [Socket.AwaitDrained]. It runs on an event loop and must not block.
	Drained()
	// Broken says that writing failed: the connection is of no use any more. It
	// runs on an event loop and must not block.
	Broken()
}

// A Turn says what follows when the right to read is given back.
type Turn int

// The turns.
const (
	Over   Turn = iota // given back
	Again              // more has come meanwhile: read on
	Closed             // the socket was closed meanwhile: the right to read is kept for ever
)

// ErrWouldBlock means that there is nothing to read at the moment.
var ErrWouldBlock = errors.New("loop: nothing to read")
