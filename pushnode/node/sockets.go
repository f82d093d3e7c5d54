package node

import (
	"errors"
	"fmt"

	"pushcluster/pushnode/loop"
)

// Sockets says who reads a node's sockets.
type Sockets string

// The ways.
const (
	SocketsBest      Sockets = ""          // event loops where the system has them, else goroutines
	SocketsEpoll     Sockets = "epoll"     // event loops: the least memory; Linux alone
	SocketsGoroutine Sockets = "goroutine" // a goroutine each; connections with TLS always have one
)

// UnmarshalText takes one of the ways (encoding.TextUnmarshaler).
func (s *Sockets) UnmarshalText(text []byte) error {
	switch way := Sockets(text); way {
	case SocketsBest, SocketsEpoll, SocketsGoroutine:
		*s = way
		return nil
	}
	return fmt.Errorf("%q is neither epoll nor goroutine", text)
}

// openPoller makes the event loops, where they are wanted and can be.
func (n *Node) openPoller() error {
	if n.cfg.Sockets == SocketsGoroutine {
		return nil
	}
	p, err := loop.New()
	switch {
	case err == nil:
		n.poller = p
	case n.cfg.Sockets == SocketsEpoll || !errors.Is(err, errors.ErrUnsupported):
		return fmt.Errorf("event loops: %w", err)
	}
	return nil
}

func (n *Node) closePoller() {
	if n.poller != nil {
		n.poller.Close()
	}
}
