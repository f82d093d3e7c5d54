//go:build !linux

package loop

import (
	"context"
	"errors"
	"net"
	"time"
)

// A Poller does not exist on this system.
type Poller struct{}

// A Socket does not exist on this system.
type Socket struct{}

// New returns an error: event loops are made for Linux.
func New() (*Poller, error) { return nil, errors.ErrUnsupported }

// Run returns an error.
func (p *Poller) Run(context.Context) error { return errors.ErrUnsupported }

// Close does nothing.
func (p *Poller) Close() {}

// Take returns an error.
func (p *Poller) Take(*net.TCPConn) (*Socket, error) { return nil, errors.ErrUnsupported }

// Watch returns an error.
func (p *Poller) Watch(*Socket, Owner) error { return errors.ErrUnsupported }

// Read returns an error.
func (s *Socket) Read([]byte) (n int, more bool, err error) { return 0, false, errors.ErrUnsupported }

// Write returns an error.
func (s *Socket) Write([]byte) (int, error) { return 0, errors.ErrUnsupported }

// Yield says that the socket is closed.
func (s *Socket) Yield() Turn { return Closed }

// Handover does nothing.
func (s *Socket) Handover(Owner) {}

// Waiting reports that nothing waits.
func (s *Socket) Waiting() (time.Time, bool) { return time.Time{}, false }

// AwaitDrained reports that nothing waits.
func (s *Socket) AwaitDrained() bool { return false }

// CloseWrite reports false.
func (s *Socket) CloseWrite() bool { return false }

// DropUnsent does nothing.
func (s *Socket) DropUnsent() {}

// Close reports false.
func (s *Socket) Close() bool { return false }

// NewSocket returns an error.
func (p *Poller) NewSocket(int) (*Socket, error) { return nil, errors.ErrUnsupported }

// An Acceptor does not exist on this system.
type Acceptor struct{}

// NewAcceptor returns an error.
func NewAcceptor(*net.TCPListener) (*Acceptor, error) { return nil, errors.ErrUnsupported }

// Close does nothing.
func (a *Acceptor) Close() error { return nil }

// Accept returns an error.
func (a *Acceptor) Accept() (int, error) { return -1, errors.ErrUnsupported }

// CloseFD does nothing.
func CloseFD(int) {}

// Conn returns an error.
func Conn(int) (net.Conn, error) { return nil, errors.ErrUnsupported }

// Conn returns an error.
func (s *Socket) Conn() (net.Conn, error) { return nil, errors.ErrUnsupported }
