package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pushcluster/shared/registry/registrytest"
)

// Who lets a replica take over, and when.
const (
	sentinelCount = 3
	downAfter     = time.Second     // Sentinel: no answer for so long is a primary that is down
	shardTimeout  = 2 * time.Second // Cluster: the same
)

// shardCount is how many primaries a Redis Cluster has, each with a replica.
const shardCount = 3

// replicasAddrs is how many addresses a [replicas] takes at most.
const replicasAddrs = 4 * shardCount

// replicas are several redis-servers that are one Redis: primaries with a
// replica each, under Sentinel or as a Redis Cluster.
type replicas struct {
	shards    []*shard
	sentinels []*sentinel // none: a Cluster
	url       string      // as REDIS_URL names it
}

// A shard is a primary and its replica, which change places.
type shard struct {
	primary, replica *redisServer
	sentinels        []*sentinel // those of its replicas
}

// A sentinel is a process that watches a primary.
type sentinel struct {
	process
	addr string
}

// masterName is what the sentinels call the primary.
const masterName = "main"

// newSentinels makes a primary, a replica, and the sentinels that watch them.
func newSentinels(dir string, addrs []string) (*replicas, error) {
	s := &shard{primary: newReplica(dir, "redis1", addrs[0]), replica: newReplica(dir, "redis2", addrs[1])}
	r := &replicas{shards: []*shard{s}, url: "redis+sentinel://" + strings.Join(addrs[2:2+sentinelCount], ",") + "/" + masterName}
	host, port, _ := net.SplitHostPort(addrs[0])
	for i, addr := range addrs[2 : 2+sentinelCount] {
		_, own, _ := net.SplitHostPort(addr)
		name := fmt.Sprintf("sentinel%d", i+1)
		conf := filepath.Join(dir, name+".conf") // a sentinel writes there, too
		text := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor %s %s %s %d\n", own, dir, masterName, host, port, sentinelCount/2+1) +
			fmt.Sprintf("sentinel down-after-milliseconds %s %d\nsentinel failover-timeout %s 6000\n", masterName, downAfter.Milliseconds(), masterName)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return nil, err
		}
		r.sentinels = append(r.sentinels, &sentinel{addr: addr, process: process{
			name: name, program: "redis-server", args: []string{conf, "--sentinel"}, log: filepath.Join(dir, name+".log")}})
	}
	s.sentinels = r.sentinels
	return r, nil
}

// newReplica makes one server of several.
func newReplica(dir, name, addr string, args ...string) *redisServer {
	r := newRedis(filepath.Join(dir, name), addr)
	r.name = name
	r.args = append(append(r.args, "--repl-diskless-sync-delay", "0"), args...)
	return r
}

// newRedisCluster makes a Redis Cluster.
func newRedisCluster(dir string, addrs []string) *replicas {
	r := &replicas{}
	var all []string
	server := func(i int) *redisServer {
		_, bus, _ := net.SplitHostPort(addrs[2*shardCount+i])
		all = append(all, addrs[i])
		return newReplica(dir, fmt.Sprintf("redis%d", i+1), addrs[i], "--cluster-enabled", "yes", "--cluster-port", bus,
			"--cluster-node-timeout", fmt.Sprint(shardTimeout.Milliseconds()))
	}
	for i := range shardCount {
		r.shards = append(r.shards, &shard{primary: server(2 * i), replica: server(2*i + 1)})
	}
	r.url = "redis+cluster://" + strings.Join(all, ",")
	return r
}

func (r *replicas) servers() []*redisServer {
	var all []*redisServer
	for _, s := range r.shards {
		all = append(all, s.primary, s.replica)
	}
	return all
}

// start starts all servers and returns when they are one Redis.
func (r *replicas) start(ctx context.Context) error {
	for _, s := range r.servers() {
		if err := os.MkdirAll(s.dir, 0o755); err != nil {
			return err
		}
		if err := s.start(ctx); err != nil {
			return err
		}
	}
	if len(r.sentinels) == 0 {
		if err := r.meet(ctx); err != nil {
			return err
		}
	} else {
		s := r.shards[0]
		host, port, _ := net.SplitHostPort(s.primary.addr)
		if err := s.replica.do("REPLICAOF", host, port); err != nil {
			return err
		}
		for _, p := range r.sentinels {
			if err := p.launch(); err != nil {
				return err
			}
		}
	}
	return r.awaitWhole(ctx)
}

// meet makes the servers a Cluster.
func (r *replicas) meet(ctx context.Context) error {
	const slots = 16384
	first := r.shards[0].primary
	for i, s := range r.shards {
		for _, args := range [][]string{
			{"CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(i * slots / shardCount), fmt.Sprint((i+1)*slots/shardCount - 1)},
			{"CLUSTER", "SET-CONFIG-EPOCH", fmt.Sprint(i + 1)},
		} {
			if err := s.primary.do(args...); err != nil {
				return err
			}
		}
	}
	for _, s := range r.servers()[1:] {
		host, port, _ := net.SplitHostPort(s.addr)
		if err := first.do("CLUSTER", "MEET", host, port, s.bus()); err != nil {
			return err
		}
	}
	for _, s := range r.shards {
		id, err := s.primary.line("return redis.status_reply(redis.call('CLUSTER', 'MYID'))")
		if err != nil {
			return err
		}
		// It must have heard of it first.
		if err := awaitRedis(ctx, "a replica of "+s.primary.name, func() error {
			_, err := registrytest.Do(s.replica.addr, "CLUSTER", "REPLICATE", id)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// bus returns the port on which a server of a Cluster talks to the others.
func (r *redisServer) bus() string { return r.args[slices.Index(r.args, "--cluster-port")+1] }

// awaitWhole waits until each primary has a replica that is up to date, and
// whoever lets it take over knows of both.
func (r *replicas) awaitWhole(ctx context.Context) error {
	return awaitRedis(ctx, "all replicas in step", func() error {
		for _, s := range r.shards {
			if err := s.whole(); err != nil {
				return err
			}
		}
		for _, p := range r.sentinels {
			answer, err := registrytest.Do(p.addr, "SENTINEL", "CKQUORUM", masterName)
			if err != nil {
				return err
			}
			if !strings.HasPrefix(answer, fmt.Sprintf("+OK %d usable", sentinelCount)) {
				return fmt.Errorf("%s says %s", p.name, answer)
			}
		}
		return nil
	})
}

// roleScript tells what a server is, and whether it has its replica or its primary.
const roleScript = `local info = redis.call('INFO', 'replication')
local role = string.match(info, 'role:%w+')
local other = role == 'role:master' and 'connected_slaves:%w+' or 'master_link_status:%w+'
return redis.status_reply(role .. ' ' .. string.match(info, other))`

// knownScript tells how many replicas a server of a Cluster knows, and whether it
// takes the Cluster for whole.
const knownScript = `local _, replicas = string.gsub(redis.call('CLUSTER', 'NODES'), '[ ,]slave ', '')
return redis.status_reply(replicas .. ' ' .. string.match(redis.call('CLUSTER', 'INFO'), 'cluster_state:%w+'))`

// whole returns nil if the replica is one and up to date, and both know of all.
func (s *shard) whole() error {
	err := errors.Join(s.primary.says(roleScript, "role:master connected_slaves:1"), s.replica.says(roleScript, "role:slave master_link_status:up"))
	if s.sentinels == nil && err == nil {
		whole := fmt.Sprintf("%d cluster_state:ok", shardCount)
		err = errors.Join(s.primary.says(knownScript, whole), s.replica.says(knownScript, whole))
	}
	return err
}

// takenOver waits until the replica is the primary.
func (s *shard) takenOver(ctx context.Context) error {
	err := awaitRedis(ctx, s.replica.name+" takes over", func() error {
		return s.replica.says("return redis.status_reply(string.match(redis.call('INFO', 'replication'), 'role:%w+'))", "role:master")
	})
	if err != nil {
		return err
	}
	s.primary, s.replica = s.replica, s.primary
	return nil
}

// part ends the replica's link to its primary, and lets it have none until the
// primary is gone: what is written there from now on it will lack.
func (s *shard) part() error {
	if err := s.primary.do("ACL", "SETUSER", "default", "-psync", "-sync"); err != nil {
		return err
	}
	return s.primary.do("CLIENT", "KILL", "TYPE", "replica")
}

// line returns what a script answers with a status.
func (r *redisServer) line(script string) (string, error) {
	text, err := registrytest.Do(r.addr, "EVAL", script, "0")
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", r.name, err)
	}
	return strings.TrimPrefix(text, "+"), nil
}

// says returns nil if that is what the script answers.
func (r *redisServer) says(script, want string) error {
	text, err := r.line(script)
	if err == nil && text != want {
		err = fmt.Errorf("%s is %q, not %q", r.name, text, want)
	}
	return err
}

// awaitRedis waits until f returns nil.
func awaitRedis(ctx context.Context, what string, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %s: %w", what, err)
		case <-time.After(10 * time.Millisecond): // servers announce nothing
		}
	}
}

func (r *replicas) processes() []*process {
	var all []*process
	for _, s := range r.servers() {
		all = append(all, &s.process)
	}
	for _, p := range r.sentinels {
		all = append(all, &p.process)
	}
	return all
}
