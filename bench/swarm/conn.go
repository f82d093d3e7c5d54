//go:build linux

package swarm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A state is how far a connection has come.
type state uint8

const (
	stateClosed state = iota
	stateDialling
	stateUpgrading
	stateGreeting
	stateOpen
)

// A conn is one connection: a descriptor and little else, so that a swarm costs
// the machine as little as it can.
type conn struct {
	Client
	fd    int
	life  int32 // counts its openings, so that events of an old one are known
	state state
	rest  []byte // read, but not yet a whole frame
	whole []byte // payloads of a message that comes in several frames
}

// A fixed key makes a fixed answer. Servers may not care.
const (
	handshakeKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	handshakeAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// dial opens a socket from source and lets it connect.
func (s *Swarm) dial(c *conn) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	c.fd, c.state = fd, stateDialling
	c.life++
	c.rest, c.whole = c.rest[:0], c.whole[:0]
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	// The kernel then chooses the port when it knows the whole connection, so
	// ports of other sources, and of connections that just ended, do not matter.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: s.source(c)}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(c.User), Pad: c.life}
	connected := true
	switch err := unix.Connect(fd, &s.servers[c.User%len(s.servers)]); {
	case errors.Is(err, unix.EINPROGRESS):
		connected = false
	case err != nil:
		return fmt.Errorf("connect: %w", err)
	}
	if connected {
		ev.Events = unix.EPOLLIN
	}
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("watch a socket: %w", err)
	}
	if connected {
		return s.upgrade(c)
	}
	return nil
}

// dialled ends what dial began.
func (s *Swarm) dialled(c *conn) error {
	if code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
		return fmt.Errorf("connect: %w", syscall.Errno(code))
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.User), Pad: c.life}
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_MOD, c.fd, &ev); err != nil {
		return fmt.Errorf("watch a socket: %w", err)
	}
	return s.upgrade(c)
}

func (s *Swarm) upgrade(c *conn) error {
	b := append(s.out[:0], "GET "...)
	b = s.cfg.Dialect.Request(b, &c.Client)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, s.cfg.Addrs[c.User%len(s.cfg.Addrs)]...)
	b = append(b, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+handshakeKey+"\r\n\r\n"...)
	s.out = b
	c.state = stateUpgrading
	return c.write(b)
}

// write sends b whole. What a client sends is small and rare, so a socket that
// cannot take it is broken.
func (c *conn) write(b []byte) error {
	n, err := unix.Write(c.fd, b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// readable reads once and takes in what came.
func (s *Swarm) readable(c *conn) error {
	n, err := unix.Read(c.fd, s.in)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case n == 0:
		return io.EOF
	}
	data := s.in[:n]
	if len(c.rest) > 0 {
		c.rest = append(c.rest, data...)
		data = c.rest
	}
	if c.state == stateUpgrading {
		size, err := answeredUpgrade(data)
		if err != nil {
			return err
		}
		if size == 0 {
			c.keep(data)
			return nil
		}
		data = data[size:]
		if err := s.greet(c, nil); err != nil {
			return err
		}
	}
	for {
		f, size, err := nextFrame(data)
		if err != nil {
			return err
		}
		if size == 0 {
			c.keep(data)
			return nil
		}
		data = data[size:]
		if err := s.take(c, f); err != nil {
			return err
		}
	}
}

// keep keeps what is not a whole frame yet. b may be part of c.rest.
func (c *conn) keep(b []byte) { c.rest = append(c.rest[:0], b...) }

// maxAnswer bounds the head of an answer to a handshake, in bytes.
const maxAnswer = 8 << 10

// answeredUpgrade returns the size of the head that data begins with, 0 if that
// is not whole yet.
func answeredUpgrade(data []byte) (int, error) {
	end := bytes.Index(data, []byte("\r\n\r\n"))
	if end < 0 {
		if len(data) > maxAnswer {
			return 0, errors.New("the answer to the handshake has no end")
		}
		return 0, nil
	}
	head := string(data[:end])
	line, _, _ := strings.Cut(head, "\r\n")
	if !strings.HasPrefix(line, "HTTP/1.1 101 ") {
		body := data[end+4:]
		return 0, fmt.Errorf("the handshake was answered %q %.200q", line, body)
	}
	if !strings.Contains(head, handshakeAccept) {
		return 0, errors.New("the answer to the handshake does not accept the key")
	}
	return end + 4, nil
}

// greet lets the dialect talk until the connection is ready.
func (s *Swarm) greet(c *conn, payload []byte) error {
	c.state = stateGreeting
	if s.cfg.Dialect.Greet != nil {
		answer, ready := s.cfg.Dialect.Greet(&c.Client, payload)
		if answer != nil {
			s.out = appendFrame(s.out[:0], opText, answer)
			if err := c.write(s.out); err != nil {
				return err
			}
		}
		if !ready {
			return nil
		}
	}
	c.state = stateOpen
	s.opening--
	s.open++
	if s.cfg.Dialect.Locate != nil {
		s.cfg.Dialect.Locate(&c.Client, payload)
	}
	return nil
}

// take takes one frame in.
func (s *Swarm) take(c *conn, f frame) error {
	switch f.op {
	case opPing:
		s.out = appendFrame(s.out[:0], opPong, f.payload)
		return c.write(s.out)
	case opPong:
		return nil
	case opClose:
		return closedError(f.payload)
	}
	s.counts.Frames++
	payload := f.payload
	if !f.final || f.op == opContinuation {
		if len(c.whole)+len(payload) > maxFrame {
			return errors.New("server sent a message that does not end")
		}
		c.whole = append(c.whole, payload...)
		if !f.final {
			return nil
		}
		payload = c.whole
		c.whole = c.whole[:0]
	}
	if c.state == stateGreeting {
		if err := s.greet(c, payload); err != nil {
			return err
		}
	} else if pong := s.cfg.Dialect.Pong; pong != nil {
		if answer := pong(payload); answer != nil {
			s.out = appendFrame(s.out[:0], opText, answer)
			if err := c.write(s.out); err != nil {
				return err
			}
		}
	}
	s.count(c, payload)
	return nil
}

// count counts the messages in payload and how long they took.
func (s *Swarm) count(c *conn, payload []byte) {
	now := time.Now().UnixNano()
	n := eachSent(payload, func(sent int64) { s.took.Add(time.Duration(now - sent)) })
	if n == 0 {
		return
	}
	s.counts.Messages += int64(n)
	if s.locating && s.cfg.Dialect.Locate != nil {
		s.cfg.Dialect.Locate(&c.Client, payload)
	}
}

func closedError(payload []byte) error {
	if len(payload) < 2 {
		return errors.New("server closed the connection")
	}
	return fmt.Errorf("server closed the connection with %d %q", int(payload[0])<<8|int(payload[1]), payload[2:])
}
