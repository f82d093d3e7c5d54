//go:build linux

package target

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"time"

	"pushcluster/bench/proc"
	"pushcluster/bench/swarm"
	"pushcluster/shared/freeaddr"
)

// startRedis starts a redis-server that keeps nothing on disk.
func startRedis(ctx context.Context, place Place) (*proc.Process, string, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, "", fmt.Errorf("%w: no redis-server is on PATH", ErrMissing)
	}
	addr, err := freeaddr.One()
	if err != nil {
		return nil, "", err
	}
	_, port, _ := net.SplitHostPort(addr) // it was made by net
	p, err := proc.Start(ctx, proc.Spec{
		Name: "redis", Path: path, Dir: place.Dir, CPU: place.CPU,
		Args: []string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", place.Dir},
		Ready: func(ctx context.Context) error {
			answer, err := askRedis(ctx, addr, "PING")
			if err == nil && string(answer) != "PONG" {
				err = fmt.Errorf("redis answers %q", answer)
			}
			return err
		},
	})
	return p, addr, err
}

func appendCommand(dst []byte, args ...string) []byte {
	dst = fmt.Appendf(dst, "*%d\r\n", len(args))
	for _, a := range args {
		dst = fmt.Appendf(dst, "$%d\r\n%s\r\n", len(a), a)
	}
	return dst
}

var errReply = errors.New("no reply of Redis")

// readReply reads a status, an error, a number, a string, or the last element of
// an array of those.
func readReply(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	line = bytes.TrimSpace(line)
	if len(line) < 2 {
		return nil, errReply
	}
	switch kind, rest := line[0], line[1:]; kind {
	case '+', ':':
		return bytes.Clone(rest), nil
	case '-':
		return nil, fmt.Errorf("redis: %s", rest)
	case '$':
		n, err := strconv.Atoi(string(rest))
		if err != nil || n < 0 || n > 1<<20 {
			return nil, errReply
		}
		b := make([]byte, 0, n+2)
		for len(b) < n+2 {
			c, err := r.ReadByte()
			if err != nil {
				return nil, err
			}
			b = append(b, c)
		}
		return b[:n], nil
	case '*':
		n, err := strconv.Atoi(string(rest))
		if err != nil || n > 1<<20 {
			return nil, errReply
		}
		var last []byte
		for range n {
			if next, err := r.Peek(1); err != nil || next[0] == '*' {
				return nil, errReply // nobody here asks for arrays in arrays
			}
			if last, err = readReply(r); err != nil {
				return nil, err
			}
		}
		return last, nil
	}
	return nil, errReply
}

// askRedis sends one command on a connection of its own.
func askRedis(ctx context.Context, addr string, args ...string) ([]byte, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second)) // fails only on a closed connection
	if _, err := c.Write(appendCommand(nil, args...)); err != nil {
		return nil, err
	}
	return readReply(bufio.NewReader(c))
}

// AppendPlain appends n payloads to so many streams of the target's Redis in turn,
// one pipelined XADD * each, in pipelines of 100, and returns how many it
// appended. It is what the cluster's own append is a multiple of.
func (t *Target) AppendPlain(ctx context.Context, streams, n int) (int, error) {
	if t.redisAddr == "" {
		return 0, ErrNotOffered
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", t.redisAddr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	const pipeline = 100
	payload := string(swarm.AppendPayload(nil, time.Now()))
	r := bufio.NewReaderSize(c, 64<<10)
	var b []byte
	done := 0
	for ; done < n; done += pipeline {
		b = b[:0]
		for i := range pipeline {
			b = appendCommand(b, "XADD", "plain:"+strconv.Itoa((done+i)%streams), "*", "m", payload)
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second)) // fails only on a closed connection
		if _, err := c.Write(b); err != nil {
			return done, err
		}
		for range pipeline {
			if _, err := readReply(r); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}
