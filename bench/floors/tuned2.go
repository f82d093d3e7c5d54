//go:build linux

package main

import (
	"bufio"
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"github.com/gorilla/websocket"
)

func tuned2() hub {
	h := newShub()
	up := websocket.Upgrader{ReadBufferSize: *readBuf, WriteBufferSize: 1024, WriteBufferPool: &sync.Pool{}}
	type scratch struct {
		b []byte
		w *bufio.Writer
		r *bufio.Reader
	}
	pool := sync.Pool{New: func() any {
		return &scratch{make([]byte, 4096), bufio.NewWriterSize(io.Discard, 512), bufio.NewReaderSize(nil, 16)}
	}}
	hs := func(nc net.Conn) {
		sc := pool.Get().(*scratch)
		defer pool.Put(sc)
		n := 0
		for {
			m, err := nc.Read(sc.b[n:])
			if err != nil {
				nc.Close()
				return
			}
			if n += m; bytes.HasSuffix(sc.b[:n], []byte("\r\n\r\n")) {
				break
			}
		}
		req := sc.b[:n]
		_, q, _ := strings.Cut(between(req, "GET ", ' '), "token=")
		tok, since, _ := strings.Cut(q, "&since=")
		u, err := auth(tok)
		if err != nil {
			nc.Close()
			return
		}
		r := &http.Request{Method: "GET", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, URL: &url.URL{Path: "/ws"}, Host: "127.0.0.1",
			Header: http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {between(req, "Sec-WebSocket-Key: ", '\r')}}}
		sc.w.Reset(nc)
		sc.r.Reset(nc)
		ws, err := up.Upgrade(&hijack{nc: nc, rw: bufio.NewReadWriter(sc.r, sc.w)}, r, nil)
		if err != nil {
			return
		}
		c := &gconn{ws: ws, u: u}
		h.add(c)
		if since != "" {
			if m := history.since(u, 0); m != nil {
				c.write(m)
			}
		}
		if park {
			rc, _ := nc.(*net.TCPConn).SyscallConn()
			go parked(rc, h, c)
			return
		}
		go func() {
			for {
				if _, _, err := ws.NextReader(); err != nil {
					h.del(c)
					ws.Close()
					return
				}
			}
		}()
	}
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go hs(nc)
		}
	}()
	return h
}

var park bool

// parked waits for readability on a stack that never grows past 2 KiB, and
// gives the read itself to another goroutine, whose larger stack is short-lived.
func parked(rc syscall.RawConn, h *shub, c *gconn) {
	done := make(chan bool)
	for {
		if err := rc.Read(readable); err != nil {
			break
		}
		go readOne(c, done)
		if !<-done {
			break
		}
	}
	h.del(c)
	c.ws.Close()
}
func readOne(c *gconn, done chan bool) {
	_, _, err := c.ws.NextReader()
	done <- err == nil
}
func readable(fd uintptr) bool {
	var b [1]byte
	_, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b[0])), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	return e != syscall.EAGAIN
}

// hijack lets gorilla's Upgrader work without net/http's server.
type hijack struct {
	nc net.Conn
	rw *bufio.ReadWriter
	h  http.Header
}

func (h *hijack) Header() http.Header                          { return h.h }
func (h *hijack) Write(b []byte) (int, error)                  { return len(b), nil }
func (h *hijack) WriteHeader(int)                              {}
func (h *hijack) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.nc, h.rw, nil }

func between(b []byte, pre string, end byte) string {
	i := bytes.Index(b, []byte(pre))
	if i < 0 {
		return ""
	}
	b = b[i+len(pre):]
	j := bytes.IndexByte(b, end)
	if j < 0 {
		return ""
	}
	return string(b[:j])
}
