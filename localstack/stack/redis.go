package stack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// An embedded is a Redis in this process.
type embedded struct {
	mini          *miniredis.Miniredis
	stop, stopped chan struct{}
}

// embeddedBeat is how often the embedded Redis is told that time has passed.
// (Its own ClockTTL goes through all keys at every command.)
const embeddedBeat = 50 * time.Millisecond

// startEmbedded starts a miniredis on a free port of 127.0.0.1.
func startEmbedded() (*embedded, error) {
	mini := miniredis.NewMiniRedis()
	if err := mini.Start(); err != nil {
		return nil, fmt.Errorf("start the embedded redis: %w", err)
	}
	e := &embedded{mini: mini, stop: make(chan struct{}), stopped: make(chan struct{})}
	go e.tick()
	return e, nil
}

// tick lets keys expire as time passes.
func (e *embedded) tick() {
	defer close(e.stopped)
	beat := time.NewTicker(embeddedBeat)
	defer beat.Stop()
	last := time.Now()
	for {
		select {
		case <-e.stop:
			return
		case now := <-beat.C:
			e.mini.FastForward(now.Sub(last))
			last = now
		}
	}
}

func (e *embedded) url() string { return "redis://" + e.mini.Addr() }
func (e *embedded) flush()      { e.mini.FlushAll() }

func (e *embedded) close() {
	close(e.stop)
	<-e.stopped
	e.mini.Close()
}

// flushURL empties the single Redis at rawURL.
func flushURL(ctx context.Context, rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "redis" {
		return errors.New("flush: only a redis:// URL can be flushed")
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "6379")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("flush redis: %w", err)
	}
	defer conn.Close()
	deadline := time.Now().Add(5 * time.Second)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return fmt.Errorf("flush redis: %w", err)
	}
	command := "FLUSHALL\r\n"
	if password, ok := u.User.Password(); ok {
		command = "AUTH " + strings.TrimSpace(u.User.Username()+" "+password) + "\r\n" + command
	}
	if _, err := conn.Write([]byte(command)); err != nil {
		return fmt.Errorf("flush redis: %w", err)
	}
	answers := bufio.NewReader(conn)
	for range strings.Count(command, "\r\n") {
		line, err := answers.ReadString('\n')
		if err != nil {
			return fmt.Errorf("flush redis: %w", err)
		}
		if !strings.HasPrefix(line, "+") {
			return fmt.Errorf("flush redis: it answers %q", strings.TrimSpace(line))
		}
	}
	return nil
}
