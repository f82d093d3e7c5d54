//go:build linux

// Package swarm is many WebSocket clients in one goroutine: plain descriptors
// and one epoll loop, because a load generator that is dearer than the server
// measures itself.
//
// It counts the payloads that arrive, whatever a server wraps around them, and
// how long they took from when they say they were sent. It only ever connects to
// 127.0.0.0/8.
package swarm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"pushcluster/bench/histogram"
)

// MaxCount is how many connections a swarm may have: the limit of descriptors
// on the machines that the figures come from.
const MaxCount = 19_000

// A Config says what a swarm connects to, and as whom.
type Config struct {
	Addrs   []string // of the server, 127.x.y.z:port; of several, clients take turns
	Dialect Dialect
	// Tokens has one token for each client. Client i is user i.
	Tokens []string
	// InFlight bounds how many handshakes are under way at once; 0: 256.
	InFlight int
}

// Counts is what arrived.
type Counts struct {
	Messages int64
	Frames   int64 // in which they came; greetings are frames too
}

// A Swarm is many clients. Its methods may be called from any goroutine, one of
// Connect and Drop at a time.
type Swarm struct {
	cfg     Config
	servers []unix.SockaddrInet4
	epoll   int
	wake    int // eventfd; written to end the loop
	done    chan struct{}

	mu       sync.Mutex // guards what follows; the loop holds it while it works
	conns    []conn
	waiting  []int32 // connections to be opened
	opening  int     // handshakes under way
	open     int
	counts   Counts
	took     histogram.Histogram
	locating bool
	closing  bool
	fault    error  // the first that went wrong
	changed  func() // called by the loop when its work may have met a condition
	in, out  []byte // buffers of the loop
	drops    int    // so that each generation comes from other addresses
}

// New returns a swarm of len(cfg.Tokens) clients, none connected, and starts its
// loop. Close ends it.
func New(cfg Config) (*Swarm, error) {
	servers, err := loopback(cfg.Addrs)
	if err != nil {
		return nil, err
	}
	if len(cfg.Tokens) < 1 || len(cfg.Tokens) > MaxCount {
		return nil, fmt.Errorf("swarm: %d clients, want 1 to %d", len(cfg.Tokens), MaxCount)
	}
	if cfg.InFlight <= 0 {
		cfg.InFlight = 256
	}
	s := &Swarm{
		cfg: cfg, servers: servers, done: make(chan struct{}), conns: make([]conn, len(cfg.Tokens)),
		in: make([]byte, 256<<10), changed: func() {},
	}
	for i := range s.conns {
		s.conns[i].Client = Client{User: i, Token: cfg.Tokens[i]}
	}
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("swarm: %w", err)
	}
	if s.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(s.epoll)
		return nil, fmt.Errorf("swarm: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, s.wake, &ev); err != nil {
		unix.Close(s.epoll)
		unix.Close(s.wake)
		return nil, fmt.Errorf("swarm: %w", err)
	}
	go s.loop()
	return s, nil
}

// loopback reads addresses, which must all be on this machine.
func loopback(addrs []string) ([]unix.SockaddrInet4, error) {
	if len(addrs) == 0 {
		return nil, errors.New("swarm: there is no address")
	}
	list := make([]unix.SockaddrInet4, len(addrs))
	for i, text := range addrs {
		addr, err := netip.ParseAddrPort(text)
		if err != nil {
			return nil, fmt.Errorf("swarm: address: %w", err)
		}
		if !addr.Addr().Is4() || !addr.Addr().IsLoopback() {
			return nil, fmt.Errorf("swarm: %s is not on this machine's loopback", text)
		}
		list[i] = unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	return list, nil
}

// Close closes every connection and ends the loop.
func (s *Swarm) Close() {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return
	}
	s.closing = true
	s.closeAll()
	s.mu.Unlock()
	_, _ = unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-s.done
	unix.Close(s.epoll)
	unix.Close(s.wake)
}

// source returns the address that c connects from: other clients, and other
// lives of this one, come from others, so that ports do not run out.
func (s *Swarm) source(c *conn) [4]byte {
	return [4]byte{127, 0, byte(1 + s.drops%250), byte(1 + c.User%250)}
}

func (s *Swarm) loop() {
	defer close(s.done)
	events := make([]unix.EpollEvent, 512)
	for {
		n, err := unix.EpollWait(s.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			s.mu.Lock()
			s.fail(fmt.Errorf("swarm: %w", err))
			s.mu.Unlock()
			return
		}
		s.mu.Lock()
		for i := range max(n, 0) {
			if events[i].Fd >= 0 {
				s.handle(&events[i])
			}
		}
		s.openMore()
		s.changed()
		closing := s.closing
		s.mu.Unlock()
		if closing {
			return
		}
	}
}

func (s *Swarm) handle(ev *unix.EpollEvent) {
	c := &s.conns[ev.Fd]
	if c.life != ev.Pad || c.state == stateClosed {
		return // of an earlier life
	}
	var err error
	if c.state == stateDialling {
		err = s.dialled(c)
	} else {
		err = s.readable(c)
	}
	if err != nil {
		s.lose(c, err)
	}
}

// lose closes a connection that broke.
func (s *Swarm) lose(c *conn, why error) {
	s.fail(fmt.Errorf("client %d: %w", c.User, why))
	s.shut(c)
}

func (s *Swarm) fail(err error) {
	if s.fault == nil {
		s.fault = err
	}
}

func (s *Swarm) shut(c *conn) {
	switch c.state {
	case stateClosed:
		return
	case stateOpen:
		s.open--
	default:
		s.opening--
	}
	unix.Close(c.fd)
	c.state = stateClosed
}

func (s *Swarm) closeAll() {
	s.waiting = s.waiting[:0]
	for i := range s.conns {
		s.shut(&s.conns[i])
	}
}

// openMore starts as many handshakes as may be under way.
func (s *Swarm) openMore() {
	for len(s.waiting) > 0 && s.opening < s.cfg.InFlight && s.fault == nil {
		c := &s.conns[s.waiting[0]]
		s.waiting = s.waiting[1:]
		s.opening++
		if err := s.dial(c); err != nil {
			if c.state == stateClosed { // not even a socket
				s.opening--
				s.fail(err)
				continue
			}
			s.lose(c, err)
		}
	}
}

// await waits until met, which is called under the lock whenever something has
// changed, or until something goes wrong. It returns when that was.
func (s *Swarm) await(ctx context.Context, what string, met func() bool) (time.Time, error) {
	reached := make(chan time.Time, 1)
	check := func() {
		if met() || s.fault != nil {
			select {
			case reached <- time.Now():
			default:
			}
		}
	}
	s.mu.Lock()
	s.changed = check
	check()
	s.mu.Unlock()
	var at time.Time
	var err error
	select {
	case at = <-reached:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = func() {}
	if s.fault != nil {
		err = s.fault
	}
	if err != nil {
		return at, fmt.Errorf("wait for %s (%d open, %d opening, %d messages): %w", what, s.open, s.opening, s.counts.Messages, err)
	}
	return at, nil
}

// Connect opens every client that is not open and returns when all are.
func (s *Swarm) Connect(ctx context.Context) error {
	s.mu.Lock()
	for i := range s.conns {
		if s.conns[i].state == stateClosed {
			s.waiting = append(s.waiting, int32(i))
		}
	}
	s.openMore()
	s.mu.Unlock()
	_, err := s.await(ctx, "connections", func() bool { return s.open == len(s.conns) })
	return err
}

// Drop closes every connection without a word, as a network does.
func (s *Swarm) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeAll()
	s.drops++
}

// Locate has clients remember their position from now on with every message,
// which costs a little; without it they know the one that they connected at.
func (s *Swarm) Locate(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.locating = on
}

// Reset forgets what arrived.
func (s *Swarm) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts = Counts{}
	s.took = histogram.Histogram{}
}

// Counts returns what arrived since the last Reset.
func (s *Swarm) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Took returns how long what arrived since the last Reset took.
func (s *Swarm) Took() *histogram.Histogram {
	s.mu.Lock()
	defer s.mu.Unlock()
	took := s.took
	return &took
}

// Await waits until at least this many messages arrived since the last Reset
// and returns when that was. A connection that is lost, now or before, is an
// error.
func (s *Swarm) Await(ctx context.Context, messages int64) (time.Time, error) {
	return s.await(ctx, fmt.Sprintf("%d messages", messages), func() bool { return s.counts.Messages >= messages })
}

// Fault returns what went wrong first with a connection, nil if nothing did.
func (s *Swarm) Fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}
