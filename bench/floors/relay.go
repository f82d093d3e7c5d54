//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log"
	"net"
	"strconv"
	"syscall"
)

// The relay is the floor of the path to a push node: the publish API in a process
// of its own, which asks Redis for the route of each message and appends it there,
// has a gepoll deliver it, and answers when that has. One thread and one epoll
// loop, no checks, no repeats, no predecessors: what it costs is the processes
// and the wire. What comes while it waits for Redis goes with the next pipeline.
type relay struct {
	ep, lfd     int
	redis, sink int
	conns       []*relayConn // by descriptor
	waiting     relayBatch
	atRedis     relayBatch // of which Redis has not answered all
	asked       bool
	atSink      []relayBatch // in the order they were sent
	replies     []byte       // of Redis to atRedis, as far as they have come
	out         []byte       // the memory of what is written next
}

// A relayBatch is what goes together: requests to answer, and their messages as
// /batch takes them.
type relayBatch struct {
	conns    []*relayConn
	messages []byte
	n        int
}

type relayConn struct {
	fd int
	in []byte // of a request that is not whole
}

var relayOK = []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

// runRelay serves the publish API at pub in front of the Redis and the stream of
// a sink. It does not return.
func runRelay(pub, redis, sink string) {
	r := &relay{conns: make([]*relayConn, 65536)}
	r.redis, r.sink = dialTCP(redis), dialTCP(sink)
	r.lfd = listenTCP(pub)
	r.ep, _ = syscall.EpollCreate1(0)
	for _, fd := range []int{r.redis, r.sink, r.lfd} {
		r.watch(fd)
	}
	evs := make([]syscall.EpollEvent, 512)
	buf := make([]byte, 256<<10)
	for {
		n, err := syscall.EpollWait(r.ep, evs, -1)
		if err != nil {
			continue
		}
		for _, ev := range evs[:n] {
			switch fd := int(ev.Fd); fd {
			case r.lfd:
				r.accept()
			case r.redis:
				r.fromRedis(buf)
			case r.sink:
				r.fromSink(buf)
			default:
				if !r.fromClient(r.conns[fd], buf) {
					r.conns[fd] = nil
					syscall.Close(fd)
				}
			}
		}
		r.ask()
	}
}

func (r *relay) watch(fd int) {
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
	if err := syscall.EpollCtl(r.ep, syscall.EPOLL_CTL_ADD, fd, &ev); err != nil {
		log.Fatal(err)
	}
}

func (r *relay) accept() {
	fd, _, err := syscall.Accept4(r.lfd, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
	if err != nil {
		return
	}
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	r.conns[fd] = &relayConn{fd: fd}
	r.watch(fd)
}

// fromClient reads a request, and reports whether the connection may be kept.
func (r *relay) fromClient(c *relayConn, buf []byte) bool {
	n, err := syscall.Read(c.fd, buf)
	if err == syscall.EAGAIN {
		return true
	}
	if n <= 0 {
		return false
	}
	req := buf[:n]
	if len(c.in) > 0 {
		c.in = append(c.in, req...)
		req = c.in
	}
	end := bytes.Index(req, []byte("\r\n\r\n"))
	head, body := req[:max(0, end+2)], req[max(0, end+4):]
	length, _ := strconv.Atoi(between(head, "Content-Length: ", '\r'))
	if end < 0 || len(body) < length {
		if len(c.in) == 0 {
			c.in = append(c.in, req...)
		}
		return true
	}
	switch {
	case bytes.HasPrefix(head, []byte("POST /publish?u=")):
		u, _ := strconv.Atoi(between(head, "u=", ' '))
		r.add(uint32(u), body[:length])
	case bytes.HasPrefix(head, []byte("POST /batch ")):
		eachMessage(body[:length], r.add)
	default: // asked whether it is ready
		writeAll(c.fd, relayOK)
		return true
	}
	c.in = c.in[:0]
	r.waiting.conns = append(r.waiting.conns, c)
	return true
}

func (r *relay) add(u uint32, payload []byte) {
	b := &r.waiting
	b.messages = binary.BigEndian.AppendUint32(b.messages, u)
	b.messages = binary.BigEndian.AppendUint16(b.messages, uint16(len(payload)))
	b.messages = append(b.messages, payload...)
	b.n++
}

// ask sends what waits to Redis if nothing is on the way there.
func (r *relay) ask() {
	if r.asked || r.waiting.n == 0 {
		return
	}
	r.atRedis, r.waiting, r.asked = r.waiting, relayBatch{}, true
	f := r.out[:0]
	var user [10]byte
	eachMessage(r.atRedis.messages, func(u uint32, payload []byte) {
		id := strconv.AppendUint(user[:0], uint64(u), 10)
		f = append(f, "*5\r\n$4\r\nXADD\r\n"...)
		f = appendBulk(f, "log:", id)
		f = append(f, "$1\r\n*\r\n$1\r\nm\r\n"...)
		f = appendBulk(f, "", payload)
		f = append(f, "*2\r\n$7\r\nHGETALL\r\n"...)
		f = appendBulk(f, "routes:", id)
	})
	r.out = f
	writeAll(r.redis, f)
}

func appendBulk(dst []byte, prefix string, b []byte) []byte {
	dst = append(dst, '$')
	dst = strconv.AppendInt(dst, int64(len(prefix)+len(b)), 10)
	dst = append(append(append(dst, "\r\n"...), prefix...), b...)
	return append(dst, "\r\n"...)
}

var errRelay = errors.New("redis or the sink is gone")

// fromRedis sends what Redis has answered on to the sink, which is the only one
// whatever the routes are.
func (r *relay) fromRedis(buf []byte) {
	n, err := syscall.Read(r.redis, buf)
	if err == syscall.EAGAIN {
		return
	}
	if n <= 0 {
		log.Fatal(errRelay)
	}
	r.replies = append(r.replies, buf[:n]...)
	rest := r.replies
	for range 2 * r.atRedis.n {
		length := replyLen(rest)
		if length == 0 {
			return // and again from the first once there is more: that is rare
		}
		rest = rest[length:]
	}
	r.replies, r.asked = r.replies[:0], false
	b := &r.atRedis
	r.out = binary.BigEndian.AppendUint32(r.out[:0], uint32(len(b.messages)))
	r.out = append(r.out, b.messages...)
	writeAll(r.sink, r.out)
	b.messages = nil
	r.atSink = append(r.atSink, *b)
}

// replyLen returns the length of the reply that b begins with, 0 if it is not
// whole.
func replyLen(b []byte) int {
	end := bytes.IndexByte(b, '\n') + 1
	if end < 3 {
		return 0
	}
	n, _ := strconv.Atoi(string(b[1 : end-2]))
	switch b[0] {
	case '-':
		log.Fatalf("redis: %s", b[:end])
	case '$':
		if n >= 0 {
			end += n + 2
		}
	case '*':
		for range n {
			l := replyLen(b[end:])
			if l == 0 {
				return 0
			}
			end += l
		}
	}
	if end > len(b) {
		return 0
	}
	return end
}

// fromSink answers the requests of as many batches as the sink has delivered.
func (r *relay) fromSink(buf []byte) {
	n, err := syscall.Read(r.sink, buf)
	if err == syscall.EAGAIN {
		return
	}
	if n <= 0 {
		log.Fatal(errRelay)
	}
	for range n {
		for _, c := range r.atSink[0].conns {
			writeAll(c.fd, relayOK)
		}
		r.atSink = r.atSink[1:]
	}
}

// writeAll writes b to a descriptor that does not block, and waits where it must:
// what is on the way is bounded by who waits for an answer.
func writeAll(fd int, b []byte) {
	for len(b) > 0 {
		n, e := rawWrite(fd, b)
		switch e {
		case 0:
			b = b[n:]
		case syscall.EAGAIN, syscall.EINTR:
		default:
			return // it is closed, which its next read tells
		}
	}
}

func listenTCP(addr string) int {
	fd := socketTCP()
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err := syscall.Bind(fd, sockaddr(addr)); err != nil {
		log.Fatal(err)
	}
	syscall.Listen(fd, 4096)
	syscall.SetNonblock(fd, true)
	return fd
}

func dialTCP(addr string) int {
	fd := socketTCP()
	if err := syscall.Connect(fd, sockaddr(addr)); err != nil {
		log.Fatal(err)
	}
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	syscall.SetNonblock(fd, true)
	return fd
}

func socketTCP() int {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		log.Fatal(err)
	}
	return fd
}

func sockaddr(addr string) syscall.Sockaddr {
	host, ps, _ := net.SplitHostPort(addr)
	port, _ := strconv.Atoi(ps)
	return &syscall.SockaddrInet4{Port: port, Addr: [4]byte(net.ParseIP(host).To4())}
}
