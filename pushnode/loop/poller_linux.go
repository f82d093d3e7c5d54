package loop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	readBuffer = 64 << 10 // of one loop
	eventsRead = 256      // events taken from the kernel at once

	pageSockets = 1 << 12
	pages       = 1 << 10 // descriptors up to 4 Mi
)

// A Poller runs event loops. Its methods may be called from any goroutine.
type Poller struct {
	loops []*eventLoop

	mu     sync.RWMutex // held while the loops' descriptors are used by number
	closed bool

	table [pages]atomic.Pointer[page] // sockets by descriptor
}

type page [pageSockets]atomic.Pointer[Socket]

// An eventLoop is one epoll. Its descriptor is itself waited for by the runtime,
// so a loop with nothing to do is a parked goroutine and not a blocked thread.
type eventLoop struct {
	poller *Poller
	file   *os.File
	fd     int
}

// New returns a poller with one loop for each processor that Go uses. Run or
// Close must follow.
func New() (*Poller, error) {
	p := &Poller{}
	for range runtime.GOMAXPROCS(0) {
		fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err == nil {
			err = unix.SetNonblock(fd, true) // so that os.NewFile lets the runtime wait for it
		}
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("make an event loop: %w", err)
		}
		p.loops = append(p.loops, &eventLoop{poller: p, file: os.NewFile(uintptr(fd), "epoll"), fd: fd})
	}
	return p, nil
}

// Run runs the loops until ctx ends and returns its error, or why a loop could
// not go on. Sockets that are open then get no more events.
func (p *Poller) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, l := range p.loops {
		g.Go(l.run)
	}
	g.Go(func() error {
		<-gctx.Done()
		p.Close()
		return gctx.Err()
	})
	err := g.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Close ends the loops.
func (p *Poller) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	for _, l := range p.loops {
		l.file.Close()
	}
}

// Take makes a socket of a TCP connection, which must not be used any more: its
// descriptor is the socket's. After an error the connection is as it was.
func (p *Poller) Take(c *net.TCPConn) (*Socket, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if outer := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); outer != nil {
		err = outer
	}
	if err != nil {
		return nil, fmt.Errorf("take the descriptor over: %w", err)
	}
	s, err := p.NewSocket(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	c.Close() // the duplicate stays open
	return s, nil
}

// NewSocket returns a socket for a descriptor that does not block, which is the
// socket's from now on; after an error it is the caller's still. Nothing is
// announced before [Poller.Watch].
func (p *Poller) NewSocket(fd int) (*Socket, error) {
	if fd < 0 || fd >= pages*pageSockets {
		return nil, errors.New("loop: descriptor out of range")
	}
	return &Socket{poller: p, fd: int32(fd)}, nil
}

// Watch announces what happens on s to owner from now on.
func (p *Poller) Watch(s *Socket, owner Owner) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return net.ErrClosed
	}
	s.owner = owner
	fd := int(s.fd)
	p.slot(fd).Store(s)
	// Edge-triggered, for both directions at once: one system call in the life of
	// a connection, whatever waits for it later.
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)}
	if err := p.control(unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		p.slot(fd).Store(nil)
		return fmt.Errorf("watch a socket: %w", err)
	}
	return nil
}

// control changes what is watched.
func (p *Poller) control(op, fd int, ev *unix.EpollEvent) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return net.ErrClosed
	}
	return unix.EpollCtl(p.loops[fd%len(p.loops)].fd, op, fd, ev)
}

// slot returns where the socket with that descriptor is kept.
func (p *Poller) slot(fd int) *atomic.Pointer[Socket] {
	at := &p.table[fd/pageSockets]
	pg := at.Load()
	if pg == nil {
		at.CompareAndSwap(nil, new(page))
		pg = at.Load()
	}
	return &pg[fd%pageSockets]
}

// run takes events until the loop is closed. It returns nil then.
func (l *eventLoop) run() error {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("event loop: %w", err)
	}
	events := make([]unix.EpollEvent, eventsRead)
	buf := make([]byte, readBuffer)
	for {
		n, err := 0, syscall.Errno(0)
		outer := raw.Read(func(fd uintptr) bool {
			n, err = epollNow(int(fd), events)
			return n > 0 || err != 0
		})
		switch {
		case outer != nil:
			return nil // closed
		case err != 0 && err != unix.EINTR:
			return fmt.Errorf("event loop: %w", err)
		}
		for i := range events[:max(0, n)] {
			// Where the number was closed meanwhile and is another socket's already,
			// that one looks in vain, which does no harm.
			if s := l.poller.slot(int(events[i].Fd)).Load(); s != nil {
				s.happened(events[i].Events, buf)
			}
		}
	}
}

// epollNow takes the events that are there without waiting.
func epollNow(fd int, events []unix.EpollEvent) (int, syscall.Errno) {
	n, _, err := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd),
		uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if err != 0 {
		return 0, err
	}
	return int(n), 0
}

// An Acceptor takes connections from a listener without making a net.Conn of
// each.
type Acceptor struct {
	file *os.File // the listener's descriptor again: net lets nobody wait for its own
	raw  syscall.RawConn
}

// What accepted connections inherit: as net has it by itself.
var inherited = []struct{ level, option, value int }{
	{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
}

// NewAcceptor returns what takes connections from l, until it is closed; l is to
// be closed too.
func NewAcceptor(l *net.TCPListener) (*Acceptor, error) {
	file, err := l.File()
	if err != nil {
		return nil, err
	}
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for _, o := range inherited {
			if err := unix.SetsockoptInt(int(fd), o.level, o.option, o.value); err != nil {
				failed = err
			}
		}
	})
	if err := errors.Join(err, failed); err != nil {
		file.Close()
		return nil, err
	}
	return &Acceptor{file, raw}, nil
}

// Close ends an Accept that waits.
func (a *Acceptor) Close() error { return a.file.Close() }

// Accept waits for a connection and returns its descriptor, which does not block
// and is the caller's. Its error wraps net.ErrClosed after Close.
func (a *Acceptor) Accept() (fd int, err error) {
	outer := a.raw.Read(func(l uintptr) bool {
		for {
			n, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, l, 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
			switch errno {
			case 0:
				fd, err = int(n), nil
				return true
			case unix.EAGAIN:
				return false
			case unix.EINTR, unix.ECONNABORTED: // that one is gone already
			default:
				err = fmt.Errorf("accept: %w", errno)
				return true
			}
		}
	})
	if outer != nil {
		return -1, net.ErrClosed // there is no other reason
	}
	return fd, err
}

// CloseFD closes a descriptor that no socket was made of.
func CloseFD(fd int) { unix.Close(fd) }

// Conn makes a net.Conn of a socket, which is used up by that. The caller has
// the right to read. What waits to be written must be nothing.
func (s *Socket) Conn() (net.Conn, error) {
	s.mu.Lock()
	fd := int(s.fd)
	if fd < 0 {
		s.mu.Unlock()
		return nil, net.ErrClosed
	}
	s.poller.slot(fd).CompareAndSwap(s, nil)
	s.fd = -1
	err := s.poller.control(unix.EPOLL_CTL_DEL, fd, nil)
	s.mu.Unlock()
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return Conn(fd)
}

// Conn makes a net.Conn of a descriptor, which is used up by that.
func Conn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close() // FileConn makes a duplicate
	return net.FileConn(f)
}
