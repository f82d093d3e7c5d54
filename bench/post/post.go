// Package post is an HTTP/1.1 client for load generators: requests that are made
// by hand go out over kept connections, and of an answer it reads no more than
// it must.
package post

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// Limits of an answer, in bytes.
const (
	maxLine = 16 << 10
	maxBody = 8 << 20
)

// answerTime bounds how long an answer may take.
const answerTime = 15 * time.Second

// A Client posts to one address over at most its number of connections. It may
// be used by several goroutines; who finds no free connection waits for one.
type Client struct {
	addr string
	free chan *conn // holds one for each connection, nil for one to be opened
}

type conn struct {
	net.Conn
	r *bufio.Reader
	b []byte // the body of the last answer
}

// New returns a client of addr (host:port). It opens nothing yet.
func New(addr string, connections int) *Client {
	c := &Client{addr: addr, free: make(chan *conn, connections)}
	for range connections {
		c.free <- nil
	}
	return c
}

// Close closes all connections. No call may be under way.
func (c *Client) Close() {
	for range cap(c.free) {
		if conn := <-c.free; conn != nil {
			conn.Close()
		}
	}
}

// Do sends requests as they stand, of which there are n, and reads as many
// answers. Each must have a status of success, and check, if it is not nil, must
// be content with its body, which is valid no longer than the call.
func (c *Client) Do(ctx context.Context, requests []byte, n int, check func(body []byte) error) error {
	var conn *conn
	select {
	case conn = <-c.free:
	case <-ctx.Done():
		return ctx.Err()
	}
	conn, err := c.do(ctx, conn, requests, n, check)
	c.free <- conn
	return err
}

// do returns the connection if it may be used again, else nil.
func (c *Client) do(ctx context.Context, conn0 *conn, requests []byte, n int, check func(body []byte) error) (*conn, error) {
	cn := conn0
	if cn == nil {
		var d net.Dialer
		opened, err := d.DialContext(ctx, "tcp", c.addr)
		if err != nil {
			return nil, err
		}
		cn = &conn{Conn: opened, r: bufio.NewReaderSize(opened, maxLine)}
	}
	_ = cn.SetDeadline(time.Now().Add(answerTime)) // fails only on a closed connection
	if _, err := cn.Write(requests); err != nil {
		cn.Close()
		return nil, fmt.Errorf("post: %w", err)
	}
	var wrong error
	for range n {
		status, body, err := readAnswer(cn.r, cn.b)
		if err != nil {
			cn.Close()
			return nil, fmt.Errorf("read an answer: %w", err)
		}
		cn.b = body[:0]
		switch {
		case wrong != nil:
		case status < 200 || status > 299:
			wrong = fmt.Errorf("answered with status %d: %.300s", status, body)
		case check != nil:
			wrong = check(body)
		}
	}
	return cn, wrong
}

var (
	errLong   = errors.New("answer is too large")
	errFormat = errors.New("answer is no HTTP/1.1")
)

// readAnswer reads one answer, its body into b. Answers have a length or come
// in chunks.
func readAnswer(r *bufio.Reader, b []byte) (status int, body []byte, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 13 || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[8] != ' ' {
		return 0, nil, errFormat
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, errFormat
	}
	length, chunked := 0, false
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		name, value, more := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		if !more {
			break
		}
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 {
				return 0, nil, errFormat
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		}
	}
	if chunked {
		body, err = readChunks(r, b[:0])
		return status, body, err
	}
	body, err = readN(r, b[:0], length)
	return status, body, err
}

func readN(r *bufio.Reader, b []byte, n int) ([]byte, error) {
	if len(b)+n > maxBody {
		return nil, errLong
	}
	for n > 0 {
		part, err := r.Peek(min(n, r.Size()))
		if len(part) == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil && len(part) < min(n, r.Size()) {
			return nil, io.ErrUnexpectedEOF
		}
		b = append(b, part...)
		n -= len(part)
		_, _ = r.Discard(len(part)) // it was peeked
	}
	return b, nil
}

func readChunks(r *bufio.Reader, b []byte) ([]byte, error) {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		digits, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(";"))
		n, err := strconv.ParseUint(string(digits), 16, 31)
		if err != nil {
			return nil, errFormat
		}
		if b, err = readN(r, b, int(n)); err != nil {
			return nil, err
		}
		if _, err := r.ReadSlice('\n'); err != nil {
			return nil, err
		}
		if n == 0 {
			return b, nil
		}
	}
}
