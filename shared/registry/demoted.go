package registry

import (
	"context"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// demotedPause is how long connections that were opened anew are left alone: the
// address may still lead to the replica.
const demotedPause = time.Second

// connections are those of a client of one address, behind which a cloud keeps
// its primary: after a failover it leads to another server, and the one that was
// the primary keeps its connections and refuses every write. (Sentinel has them
// closed, and a Cluster names the right server.) go-redis parts with a connection
// for that only if the first command of a pipeline is refused, and ours only
// reads. So when any is refused all connections are closed, and with the next ones
// the run id is looked at; and likewise when the store tells of a term that goes on
// elsewhere, of which such a server may know nothing. Who only reads learns of it
// with the next write: each node renews its lease every few seconds.
type connections struct {
	mu     sync.Mutex // guards what follows
	open   map[*connection]struct{}
	closed time.Time // when all were closed last
}

// A connection is one of several that are closed together.
type connection struct {
	net.Conn
	all *connections
}

// Close closes the connection.
func (c *connection) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// NetConn returns what c is of, which go-redis looks for data in.
func (c *connection) NetConn() net.Conn { return c.Conn }

// A plainConnection lets go-redis see whether the other side has closed it.
type plainConnection struct {
	*connection
	syscall.Conn
}

// closeAll closes all connections, unless that was done a moment ago, and reports
// whether it did. What is under way on them fails. In a Cluster there are none.
func (a *connections) closeAll() bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	if time.Since(a.closed) < demotedPause {
		a.mu.Unlock()
		return false
	}
	a.closed = time.Now()
	open := a.open
	a.open = make(map[*connection]struct{})
	a.mu.Unlock()
	for c := range open {
		_ = c.Conn.Close()
	}
	return true
}

// refused closes all connections if err says that a write met a replica.
func (a *connections) refused(err error) {
	if err != nil && strings.Contains(err.Error(), "READONLY You can't write against a read only replica") {
		a.closeAll()
	}
}

// DialHook keeps what the client opens.
func (a *connections) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := &connection{conn, a}
		a.mu.Lock()
		a.open[c] = struct{}{}
		a.mu.Unlock()
		if plain, ok := conn.(syscall.Conn); ok {
			return plainConnection{c, plain}, nil
		}
		return c, nil
	}
}

// ProcessHook looks at the answer of a command.
func (a *connections) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		a.refused(err)
		return err
	}
}

// ProcessPipelineHook looks at the answers of a pipeline.
func (a *connections) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			a.refused(cmd.Err())
		}
		return err
	}
}
