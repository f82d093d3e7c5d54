//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/gorilla/websocket"
)

type ehub struct {
	*shub
	gorilla bool
	ep, lfd int
	byfd    []*fdconn // loop-owned
	fds     []int32   // raw: uid -> fd
	uids    []int32   // raw: fd -> uid
	up      websocket.Upgrader
	w       *bufio.Writer
	part    map[int][]byte
}

// fdconn is the net.Conn gorilla sees: a bare non-blocking socket.
type fdconn struct {
	fd      int
	c       *gconn
	greeted bool
}

// connected answers a connect command, in about as many bytes as our node.
var connected = []byte(`{"id":1,"connect":{"client":"00000000-0000-0000-0000-000000000000","ping":25,"pong":true,` +
	`"subs":{"#0":{"recoverable":true,"epoch":"00000000","positioned":true}}}}`)

func (f *fdconn) Read(b []byte) (int, error) {
	for {
		n, _, e := syscall.RawSyscall(syscall.SYS_READ, uintptr(f.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if e == 0 && n > 0 {
			return int(n), nil
		}
		if e == 0 {
			return 0, io.EOF
		}
		if e == syscall.EINTR {
			continue
		}
		return 0, e
	}
}
func rawWrite(fd int, b []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), e
}
func (f *fdconn) Write(b []byte) (int, error) {
	n, e := rawWrite(f.fd, b)
	if e != 0 {
		return 0, e
	}
	if n < len(b) {
		return n, io.ErrShortWrite
	}
	return n, nil
}
func (f *fdconn) Close() error                     { return nil }
func (f *fdconn) LocalAddr() net.Addr              { return nil }
func (f *fdconn) RemoteAddr() net.Addr             { return nil }
func (f *fdconn) SetDeadline(time.Time) error      { return nil }
func (f *fdconn) SetReadDeadline(time.Time) error  { return nil }
func (f *fdconn) SetWriteDeadline(time.Time) error { return nil }

func epollHub(gorilla bool) hub {
	h := &ehub{shub: newShub(), gorilla: gorilla, part: map[int][]byte{}}
	h.up = websocket.Upgrader{ReadBufferSize: *readBuf, WriteBufferSize: 1024, WriteBufferPool: &sync.Pool{}}
	h.w = bufio.NewWriterSize(io.Discard, 512)
	h.byfd = make([]*fdconn, 260000)
	if !gorilla {
		h.fds = make([]int32, 260000)
		h.uids = make([]int32, 260000)
	}
	fd := listenTCP(*addr)
	h.lfd = fd
	h.ep, _ = syscall.EpollCreate1(0)
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
	syscall.EpollCtl(h.ep, syscall.EPOLL_CTL_ADD, fd, &ev)
	go h.loop()
	return h
}

func (h *ehub) loop() {
	evs := make([]syscall.EpollEvent, 512)
	buf := make([]byte, 16<<10)
	for {
		n, err := syscall.EpollWait(h.ep, evs, -1)
		if err != nil {
			continue
		}
		for i := 0; i < n; i++ {
			fd := int(evs[i].Fd)
			if fd == h.lfd {
				for k := 0; k < 64; k++ {
					nfd, _, err := syscall.Accept4(fd, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
					if err != nil {
						break
					}
					syscall.SetsockoptInt(nfd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
					h.byfd[nfd] = nil
					if h.uids != nil {
						h.uids[nfd] = -1
					}
					ev := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP, Fd: int32(nfd)}
					syscall.EpollCtl(h.ep, syscall.EPOLL_CTL_ADD, nfd, &ev)
				}
				continue
			}
			open := h.byfd[fd] != nil || (h.uids != nil && h.uids[fd] >= 0)
			if open && h.gorilla {
				f := h.byfd[fd]
				_, r, err := f.c.ws.NextReader()
				if err == nil && *greet && !f.greeted {
					f.greeted = true
					if _, err = io.Copy(io.Discard, r); err == nil {
						err = f.c.ws.WriteMessage(websocket.TextMessage, connected)
					}
				}
				if err != nil {
					h.del(f.c)
					h.byfd[fd] = nil
					syscall.Close(fd)
				}
				continue
			}
			m, e := syscall.Read(fd, buf)
			if m <= 0 {
				if e == syscall.EAGAIN {
					continue
				}
				if open {
					h.fds[h.uids[fd]] = 0
					h.uids[fd] = -1
				}
				syscall.Close(fd)
				continue
			}
			if open {
				continue // a client frame: a push node answers pongs here
			}
			req := buf[:m]
			if p := h.part[fd]; p != nil {
				req = append(p, req...)
			}
			if !bytes.HasSuffix(req, []byte("\r\n\r\n")) {
				h.part[fd] = bytes.Clone(req)
				continue
			}
			delete(h.part, fd)
			if !h.handshake(fd, req) {
				syscall.Close(fd)
			}
		}
	}
}

func (h *ehub) handshake(fd int, req []byte) bool {
	path := between(req, "GET ", ' ')
	_, q, _ := strings.Cut(path, "token=")
	tok, since, _ := strings.Cut(q, "&since=")
	u, err := auth(tok)
	if err != nil {
		return false
	}
	key := between(req, "Sec-WebSocket-Key: ", '\r')
	var last []byte
	if since != "" {
		last = history.since(u, 0)
	}
	if !h.gorilla {
		s := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		out := append(make([]byte, 0, 160), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
		out = base64.StdEncoding.AppendEncode(out, s[:])
		out = append(out, "\r\n\r\n"...)
		rawWrite(fd, out)
		h.uids[fd] = int32(u)
		atomic.StoreInt32(&h.fds[u], int32(fd))
		if last != nil {
			h.send(u, last)
		}
		return true
	}
	f := &fdconn{fd: fd}
	r := &http.Request{Method: "GET", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, URL: &url.URL{Path: "/ws"}, Host: "127.0.0.1",
		Header: http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {key}}}
	h.w.Reset(f)
	ws, err := h.up.Upgrade(&hijack{nc: f, rw: bufio.NewReadWriter(bufio.NewReaderSize(f, 16), h.w)}, r, nil)
	if err != nil {
		log.Println(err)
		return false
	}
	c := &gconn{ws: ws, u: u}
	f.c = c
	h.byfd[fd] = f
	h.add(c)
	if last != nil {
		h.send(u, last)
	}
	return true
}

func frame(d []byte, b []byte) []byte {
	if len(b) < 126 {
		d = append(d, 0x81, byte(len(b)))
	} else {
		d = append(d, 0x81, 126, byte(len(b)>>8), byte(len(b)))
	}
	return append(d, b...)
}

func (h *ehub) send(u uint32, b []byte) {
	if !h.gorilla {
		fd := atomic.LoadInt32(&h.fds[u])
		if fd == 0 {
			return
		}
		var a [1024]byte
		fr := frame(a[:0], b)
		if n, e := rawWrite(int(fd), fr); e != 0 || n < len(fr) {
			dropped.Add(1)
		}
		return
	}
	if c := h.get(u); c != nil {
		c.mu.Lock()
		if err := c.ws.WriteMessage(websocket.TextMessage, b); err != nil {
			dropped.Add(1)
		}
		c.mu.Unlock()
	}
}

func (h *ehub) bcast(b []byte) {
	if h.gorilla {
		*deadline = false
		h.shub.bcast(b)
		return
	}
	fr := frame(nil, b)
	for i := range h.fds {
		if fd := atomic.LoadInt32(&h.fds[i]); fd != 0 {
			if n, e := rawWrite(int(fd), fr); e != 0 || n < len(fr) {
				dropped.Add(1)
			}
		}
	}
}
