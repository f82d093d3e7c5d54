//go:build unix

package node

import (
	"errors"
	"io"
	"syscall"

	"pushcluster/pushnode/loop"
)

// rawReads says that awaitReadable and readNow work.
const rawReads = true

// awaitReadable waits until there is something to read, or the peer has left. It
// needs little of its caller's stack.
func awaitReadable(raw syscall.RawConn) error { return raw.Read(isReadable) }

func isReadable(fd uintptr) bool {
	var b [1]byte
	for {
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		if err != syscall.EINTR {
			return err != syscall.EAGAIN
		}
	}
}

// readNow reads what is there into p without waiting. Its error is
// loop.ErrWouldBlock where that is nothing, io.EOF where the peer has ended.
func readNow(raw syscall.RawConn, p []byte) (n int, err error) {
	outer := raw.Read(func(fd uintptr) bool {
		for {
			n, err = syscall.Read(int(fd), p)
			if err != syscall.EINTR {
				return true // never wait
			}
		}
	})
	switch {
	case outer != nil:
		return 0, outer
	case err == syscall.EAGAIN:
		return 0, loop.ErrWouldBlock
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// writeNow writes as much of p as the kernel takes without waiting.
func writeNow(raw syscall.RawConn, p []byte) (n int, err error) {
	outer := raw.Write(func(fd uintptr) bool {
		for n < len(p) {
			var m int
			m, err = syscall.Write(int(fd), p[n:])
			if m > 0 {
				n += m
			}
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if err != nil {
				break
			}
		}
		return true // never wait
	})
	if errors.Is(err, syscall.EAGAIN) {
		err = nil
	}
	if err == nil {
		err = outer
	}
	return n, err
}
