//go:build linux

package target

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"pushcluster/bench/post"
	"pushcluster/bench/proc"
	"pushcluster/bench/swarm"
	"pushcluster/shared/freeaddr"
)

// Centrifuge is the Go library centrifuge as a server, with its Redis broker:
// bench/peers/centrifuge, a module of its own in directory peers.
func Centrifuge(peers string) Kind {
	return Kind{Name: "centrifuge", About: "the Go library centrifuge 0.38.0 with its Redis broker", start: func(ctx context.Context, t *Target, place Place, _ Options) error {
		path := filepath.Join(place.Bin, "centrifuge")
		build := exec.CommandContext(ctx, "go", "build", "-o", path, ".")
		build.Dir = filepath.Join(peers, "centrifuge")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: the server does not build: %v: %s", ErrMissing, err, out)
		}
		addrs, redis, err := t.withRedis(ctx, place)
		if err != nil {
			return err
		}
		err = t.runFirst(ctx, place, proc.Spec{Name: "node", Path: path, Ready: listens(addrs[1]),
			Args: []string{"-addr", addrs[0], "-pub", addrs[1], "-redis", redis, "-secret", Secret}})
		if err != nil {
			return err
		}
		t.Addrs, t.Dialect, t.Recovers = addrs[:1], swarm.Centrifugo(false), true
		t.free = []string{"http://" + addrs[1] + "/free"}
		t.publishBinary(addrs[1])
		return nil
	}}
}

// SocketIO is a Socket.IO server with its Redis adapter: bench/peers/socketio in
// directory peers, whose packages npm installs.
func SocketIO(peers string) Kind {
	return Kind{Name: "socket.io", About: "Socket.IO with its Redis adapter, on Node.js", start: func(ctx context.Context, t *Target, place Place, _ Options) error {
		path, err := exec.LookPath("node")
		if err != nil {
			return fmt.Errorf("%w: no node is on PATH", ErrMissing)
		}
		dir := filepath.Join(peers, "socketio")
		if err := installNPM(ctx, dir); err != nil {
			return err
		}
		addrs, redis, err := t.withRedis(ctx, place)
		if err != nil {
			return err
		}
		err = t.runFirst(ctx, place, proc.Spec{Name: "node", Path: path, Ready: listens(addrs[1]),
			Args: []string{"--expose-gc", filepath.Join(dir, "server.js"), addrs[0], addrs[1], redis, Secret}})
		if err != nil {
			return err
		}
		t.Addrs, t.Dialect = addrs[:1], swarm.SocketIO()
		t.free = []string{"http://" + addrs[1] + "/free"}
		t.publishBinary(addrs[1])
		return nil
	}}
}

// installNPM installs what the lock file of dir names, once.
func installNPM(ctx context.Context, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json")); err == nil {
		return nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return fmt.Errorf("%w: no npm is on PATH", ErrMissing)
	}
	install := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-progress", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: npm ci: %v: %s", ErrMissing, err, out)
	}
	return nil
}

// withRedis starts a Redis and returns its address and two free ones.
func (t *Target) withRedis(ctx context.Context, place Place) (addrs []string, redis string, err error) {
	p, redis, err := startRedis(ctx, place)
	if err != nil {
		return nil, "", err
	}
	t.Processes = append(t.Processes, p)
	t.redisAddr = redis
	addrs, err = freeaddr.Take(2)
	return addrs, redis, err
}

// runFirst starts a process and puts it before those that run.
func (t *Target) runFirst(ctx context.Context, place Place, spec proc.Spec) error {
	if err := t.run(ctx, place, spec); err != nil {
		return err
	}
	last := len(t.Processes) - 1
	t.Processes = append([]*proc.Process{t.Processes[last]}, t.Processes[:last]...)
	return nil
}

// nchanModule is where Debian's libnginx-mod-nchan puts the module.
const nchanModule = "/usr/lib/nginx/modules/ngx_nchan_module.so"

// NginxNchan is nginx with the nchan module, as Debian packages it: one worker,
// messages in its own memory, no tokens.
func NginxNchan() Kind {
	return Kind{Name: "nchan", About: "nginx with nchan, one worker, its own memory, no authentication", start: func(ctx context.Context, t *Target, place Place, _ Options) error {
		path, err := exec.LookPath("nginx")
		if err != nil {
			if path, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
				return fmt.Errorf("%w: no nginx (Debian: nginx, libnginx-mod-nchan)", ErrMissing)
			}
		}
		if _, err := os.Stat(nchanModule); err != nil {
			return fmt.Errorf("%w: no nchan module for nginx (Debian: libnginx-mod-nchan)", ErrMissing)
		}
		addr, err := freeaddr.One()
		if err != nil {
			return err
		}
		conf := filepath.Join(place.Dir, "nginx.conf")
		if err := os.WriteFile(conf, []byte(nchanConf(addr)), 0o600); err != nil {
			return err
		}
		if err := t.run(ctx, place, proc.Spec{Name: "node", Path: path, Args: []string{"-p", place.Dir, "-c", conf}, Ready: listens(addr)}); err != nil {
			return err
		}
		client := post.New(addr, Connections)
		t.closers = append(t.closers, client.Close)
		t.Addrs, t.Dialect, t.Publisher = []string{addr}, swarm.Nchan(), &pathAPI{addr: addr, client: client}
		return nil
	}}
}

// nchanConf is one process that serves subscribers and publishers on one port.
// Everybody also gets what is published to "all".
func nchanConf(addr string) string {
	_, port, _ := net.SplitHostPort(addr) // made by net
	return strings.ReplaceAll(`load_module `+nchanModule+`;
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 20000;
events { worker_connections 19900; }
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	keepalive_requests 100000000;
	server {
		listen 127.0.0.1:PORT backlog=4096;
		location ~ ^/sub/(\w+)$ {
			nchan_subscriber websocket;
			nchan_channel_id $1 all;
			nchan_subscriber_first_message newest;
			nchan_websocket_ping_interval 0;
		}
		location ~ ^/pub/(\w+)$ {
			nchan_publisher http;
			nchan_channel_id $1;
			nchan_message_buffer_length 10;
			nchan_message_timeout 1h;
		}
	}
}
`, "PORT", port)
}
