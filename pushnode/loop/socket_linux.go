package loop

import (
	"io"
	"net"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Socket is a stream socket whose Read and Write never block. It is closed
// once; after that everything fails and nothing touches its descriptor.
type Socket struct {
	// Fixed by NewSocket.
	poller *Poller

	mu      sync.Mutex // guards what follows, and every system call on fd
	fd      int32      // -1: closed
	reading bool       // somebody has the right to read
	again   bool       // something came while somebody had it
	hup     bool       // the peer has ended its sending side
	tell    bool       // the owner awaits Drained
	owner   Owner
	rest    *rest // what the kernel has not taken yet; nil: nothing
}

// A rest is what waits for a socket that was full.
type rest struct {
	bytes []byte
	since time.Time // when it began to wait, or the kernel last took of it
}

// happened takes what epoll reported. It runs on the socket's loop.
func (s *Socket) happened(events uint32, buf []byte) {
	if events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		s.drain()
	}
	if events&^uint32(unix.EPOLLOUT) == 0 {
		return
	}
	hup := events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
	s.mu.Lock()
	s.hup = s.hup || hup
	if s.reading {
		s.again = true
		s.mu.Unlock()
		return
	}
	s.reading = true
	owner := s.owner
	s.mu.Unlock()
	owner.Readable(buf)
}

// drain writes what waits, as far as the kernel takes it.
func (s *Socket) drain() {
	s.mu.Lock()
	if s.rest == nil || s.fd < 0 {
		s.mu.Unlock()
		return
	}
	n, err := write(int(s.fd), s.rest.bytes)
	s.rest.bytes = s.rest.bytes[n:]
	tell := false
	switch {
	case len(s.rest.bytes) == 0:
		s.rest = nil
		tell, s.tell = s.tell, false
	case n > 0:
		s.rest.since = time.Now()
	}
	owner := s.owner
	s.mu.Unlock()
	switch {
	case err != nil:
		owner.Broken()
	case tell:
		owner.Drained()
	}
}

// Read reads what is there into p, which is not empty. Its error is
// [ErrWouldBlock] where that is nothing, io.EOF where the peer has ended,
// net.ErrClosed after Close. more is false if there is nothing behind what it
// read: what comes later is announced. Whoever calls Read has the right to.
func (s *Socket) Read(p []byte) (n int, more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err = s.read(p)
	// Edge-triggered, an end that came with the last bytes is not told again.
	return n, n == len(p) || s.hup, err
}

func (s *Socket) read(p []byte) (int, error) {
	for {
		if s.fd < 0 {
			return 0, net.ErrClosed
		}
		n, _, err := syscall.RawSyscall(unix.SYS_READ, uintptr(s.fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		switch {
		case err == 0 && n > 0:
			return int(n), nil
		case err == 0:
			return 0, io.EOF
		case err == unix.EAGAIN:
			return 0, ErrWouldBlock
		case err != unix.EINTR:
			return 0, err
		}
	}
}

// Yield gives the right to read back, unless there is reason to read on.
func (s *Socket) Yield() Turn {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.fd < 0:
		return Closed
	case s.again:
		s.again = false
		return Again
	}
	s.reading = false
	return Over
}

// Write takes all of p: what the kernel does not take waits. An error means that
// the connection is of no use any more.
func (s *Socket) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return 0, net.ErrClosed
	}
	if s.rest != nil {
		s.rest.bytes = append(s.rest.bytes, p...)
		return len(p), nil
	}
	n, err := write(int(s.fd), p)
	if err != nil {
		return n, err
	}
	if n < len(p) {
		s.rest = &rest{bytes: append([]byte(nil), p[n:]...), since: time.Now()}
	}
	return len(p), nil
}

// write writes as much of p as the kernel takes.
func write(fd int, p []byte) (done int, err error) {
	for done < len(p) {
		n, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[done])), uintptr(len(p)-done))
		switch errno {
		case 0:
			done += int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return done, nil
		default:
			return done, errno
		}
	}
	return done, nil
}

// Waiting reports since when bytes wait for the kernel to take any of them; ok is
// false if none do.
func (s *Socket) Waiting() (since time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rest == nil {
		return time.Time{}, false
	}
	return s.rest.since, true
}

// AwaitDrained reports whether bytes wait. If so, the owner is told once they
// are written ([Owner.Drained]), or that they never will be ([Owner.Broken]).
func (s *Socket) AwaitDrained() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rest == nil || s.fd < 0 {
		return false
	}
	s.tell = true
	return true
}

// Handover has s announce to owner from now on. Its caller has the right to read.
func (s *Socket) Handover(owner Owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owner = owner
}

// CloseWrite ends the sending side, behind what was written. It does nothing
// where bytes wait, and reports whether it did.
func (s *Socket) CloseWrite() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fd >= 0 && s.rest == nil && unix.Shutdown(int(s.fd), unix.SHUT_WR) == nil
}

// DropUnsent has Close reset the connection: what the kernel has taken and not
// sent is lost then, too.
func (s *Socket) DropUnsent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd >= 0 {
		_ = unix.SetsockoptLinger(int(s.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
}

// Close closes the socket; what waits is lost. It reports true to its first
// caller if nobody had the right to read: it is the caller's then, for ever, and
// with it what is to be done once when a connection has ended. Otherwise whoever
// has it learns from Read or [Socket.Yield].
func (s *Socket) Close() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return false
	}
	fd := int(s.fd)
	s.poller.slot(fd).CompareAndSwap(s, nil)
	s.fd, s.rest = -1, nil
	unix.Close(fd)
	idle := !s.reading
	s.reading = true
	return idle
}
