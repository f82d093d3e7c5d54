package node

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"pushcluster/pushnode/loop"
)

// A frontAnswer is the answer to a request that the front read. It is kept until
// the handler has returned, unless the handler takes the connection over.
type frontAnswer struct {
	sock   *loop.Socket
	unread bool        // more may be on the socket that will not be announced
	header http.Header // nil: nobody asked for it
	status int
	body   []byte
	taken  bool
	next   func() // what to do when the handler has returned; set by who took the connection
}

// A frontConn is the connection of a request that the front read.
type frontConn struct {
	pollSocket
	answer *frontAnswer
}

// Header returns the header that will be sent (http.ResponseWriter).
func (a *frontAnswer) Header() http.Header {
	if a.header == nil {
		a.header = make(http.Header)
	}
	return a.header
}

// WriteHeader sets the status; the first one counts (http.ResponseWriter).
func (a *frontAnswer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write adds to the body (http.ResponseWriter).
func (a *frontAnswer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	a.body = append(a.body, p...)
	return len(p), nil
}

// Hijack hands the socket over (http.Hijacker). The buffers are the taker's.
func (a *frontAnswer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	a.taken = true
	return frontConn{pollSocket{a.sock}, a}, nil, nil
}

// bytes returns the whole answer, after which the connection is closed.
func (a *frontAnswer) bytes() []byte {
	a.WriteHeader(http.StatusOK)
	h := a.Header()
	h.Set("Connection", "close")
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	b := &bytes.Buffer{}
	fmt.Fprintf(b, "HTTP/1.1 %d %s\r\n", a.status, http.StatusText(a.status))
	_ = h.Write(b) // a buffer takes all
	b.WriteString("\r\n")
	return slices.Concat(b.Bytes(), a.body)
}
