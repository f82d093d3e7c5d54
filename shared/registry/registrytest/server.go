// Package registrytest starts a Redis of its own for each test that needs one.
package registrytest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"pushcluster/shared/freeaddr"
)

// startTries is how many free ports are tried, for another process may take one
// between our look and the server's start.
const startTries = 5

// A Server is one Redis on 127.0.0.1 that ends with its test.
type Server struct {
	t    testing.TB
	addr string
	dir  string
	args []string // beyond those that every server gets

	mini *miniredis.Miniredis // nil: a redis-server process
	cmd  *exec.Cmd            // nil while stopped
	done chan error           // what cmd ended with
}

// Redis starts a redis-server of its own for t, with args added to its command
// line. Where none is on PATH it starts
// a miniredis and says so; with CI=true a missing one fails the test.
func Redis(t testing.TB, args ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("redis-server is not on PATH, and CI=true")
		}
		t.Log("redis: miniredis, for no redis-server is on PATH")
		return Mini(t)
	}
	s := &Server{t: t, dir: t.TempDir(), args: args}
	var err error
	for range startTries {
		if s.addr, err = freeaddr.One(); err != nil {
			break
		}
		if err = s.start(); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatalf("start redis-server: %v", err)
	}
	t.Cleanup(s.Kill)
	t.Logf("redis: redis-server on %s", s.addr)
	return s
}

// miniBeat is how often a miniredis is told that time has passed. (Its own
// ClockTTL goes through all keys at every command.)
const miniBeat = 20 * time.Millisecond

// Mini starts a miniredis for t, whose keys expire as time passes.
func Mini(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, mini: miniredis.NewMiniRedis()}
	if err := s.mini.Start(); err != nil {
		t.Fatalf("start miniredis: %v", err)
	}
	s.addr = s.mini.Addr()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go s.tick(stop, stopped)
	t.Cleanup(func() {
		close(stop)
		<-stopped
		s.mini.Close()
	})
	return s
}

// tick moves the expiry of a miniredis' keys on with real time, until stop is
// closed.
func (s *Server) tick(stop, stopped chan struct{}) {
	defer close(stopped)
	beat := time.NewTicker(miniBeat)
	defer beat.Stop()
	last := time.Now()
	for {
		select {
		case <-stop:
			return
		case now := <-beat.C:
			s.mini.FastForward(now.Sub(last))
			last = now
		}
	}
}

// Addr returns host:port of the server, also while it is stopped.
func (s *Server) Addr() string { return s.addr }

// URL returns the REDIS_URL of the server.
func (s *Server) URL() string { return "redis://" + s.addr }

// Mini returns the miniredis behind s; nil for a redis-server.
func (s *Server) Mini() *miniredis.Miniredis { return s.mini }

// Stop ends the server at once, as a crash would. Start brings it back.
func (s *Server) Stop() {
	if s.mini != nil {
		s.mini.Close()
		return
	}
	s.Kill()
	_ = os.Remove(filepath.Join(s.dir, "dump.rdb")) // of an earlier StopSaving
}

// StopSaving ends a redis-server after it saved its memory, so that Start
// brings it back with what it held. It skips the test on a miniredis.
func (s *Server) StopSaving() {
	s.t.Helper()
	if s.mini != nil {
		s.t.Skip("miniredis does not save")
	}
	_, _ = Do(s.addr, "SHUTDOWN", "SAVE") // the connection ends without an answer
	<-s.done
	s.cmd = nil
}

// Start starts a stopped server again on the same address: empty after Stop,
// with what it held after StopSaving.
func (s *Server) Start() {
	s.t.Helper()
	if s.mini != nil {
		s.mini.FlushAll()
		if err := s.mini.Restart(); err != nil {
			s.t.Fatalf("restart miniredis: %v", err)
		}
		return
	}
	if err := s.start(); err != nil {
		s.t.Fatalf("restart redis-server: %v", err)
	}
}

// FlushAll empties the server while it runs.
func (s *Server) FlushAll() {
	s.t.Helper()
	if _, err := Do(s.addr, "FLUSHALL"); err != nil {
		s.t.Fatalf("flushall: %v", err)
	}
}

// Kill ends a redis-server at once and waits until it is gone.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may be gone already
	<-s.done
	s.cmd = nil
}

func (s *Server) start() error {
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return err
	}
	args := append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
		"--dir", s.dir, "--logfile", filepath.Join(s.dir, "redis.log")}, s.args...)
	cmd := exec.Command("redis-server", args...)
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	deadline := time.Now().Add(time.Minute)
	for {
		if answer, err := Do(s.addr, "PING"); err == nil && answer == "+PONG" {
			s.cmd, s.done = cmd, done
			return nil
		}
		select {
		case err := <-done:
			return fmt.Errorf("it ended at once: %w", err)
		case <-time.After(5 * time.Millisecond): // the port tells nobody when it opens
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			<-done
			return errors.New("it did not answer within a minute")
		}
	}
}

// Do sends one command to the Redis at addr and returns the first line of its
// answer.
func Do(addr string, args ...string) (string, error) {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("*" + strconv.Itoa(len(args)) + "\r\n")
	for _, a := range args {
		b.WriteString("$" + strconv.Itoa(len(a)) + "\r\n" + a + "\r\n")
	}
	if _, err := conn.Write([]byte(b.String())); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	line = strings.TrimSpace(line)
	if err == nil && strings.HasPrefix(line, "-") {
		err = errors.New(line[1:])
	}
	return line, err
}
