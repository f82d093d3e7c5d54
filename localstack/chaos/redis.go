package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"pushcluster/shared/registry/registrytest"
)

// A redisServer is the cluster's Redis, a redis-server process that keeps its
// port over restarts.
type redisServer struct {
	process
	addr string
	dir  string
}

func newRedis(dir, addr string) *redisServer {
	_, port, _ := net.SplitHostPort(addr)
	return &redisServer{addr: addr, dir: dir, process: process{
		name: "redis", program: "redis-server", log: filepath.Join(dir, "redis.log"),
		args: []string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir, "--dbfilename", "dump.rdb"},
	}}
}

// start starts the server and waits until it answers. It begins with what
// dump.rdb holds, if there is one.
func (r *redisServer) start(ctx context.Context) error {
	if err := r.launch(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for {
		if answer, err := registrytest.Do(r.addr, "PING"); err == nil && answer == "+PONG" {
			return nil
		}
		if !r.running() {
			return fmt.Errorf("redis-server ended at once: see %s", r.log)
		}
		select {
		case <-ctx.Done():
			return errors.New("redis-server does not answer")
		case <-time.After(5 * time.Millisecond): // the port tells nobody when it opens
		}
	}
}

// do runs a command that may be repeated, on a machine that may be busy.
func (r *redisServer) do(args ...string) error {
	var err error
	for range 3 {
		if _, err = registrytest.Do(r.addr, args...); err == nil {
			return nil
		}
	}
	return fmt.Errorf("redis %s: %w", args[0], err)
}

// snapshot writes what the server holds now to its dump file. A server that
// starts again begins with it.
func (r *redisServer) snapshot() error { return r.do("SAVE") }

// clock returns the time that the server has, to the second.
func (r *redisServer) clock() (time.Time, error) {
	sec, err := r.number("return tonumber(redis.call('TIME')[1])")
	return time.Unix(sec, 0), err
}

// memory returns how many bytes the server uses.
func (r *redisServer) memory() (int64, error) {
	return r.number("return tonumber(string.match(redis.call('INFO', 'memory'), 'used_memory:(%d+)'))")
}

// number returns what a script does.
func (r *redisServer) number(script string) (int64, error) {
	line, err := registrytest.Do(r.addr, "EVAL", script, "0")
	if err != nil {
		return 0, fmt.Errorf("ask redis: %w", err)
	}
	return strconv.ParseInt(strings.TrimPrefix(line, ":"), 10, 64)
}
