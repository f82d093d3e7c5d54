package chaos

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A verdict says what a proxy does with bytes on their way.
type verdict int

const (
	pass verdict = iota // hand them on
	cut                 // drop them and close the connection on both sides
	half                // hand on the first half, and then close both sides
)

// A proxy is a piece of network between two processes that can be cut. It
// listens at addr and passes bytes to and from target.
type proxy struct {
	addr   string
	target string
	l      net.Listener
	wg     sync.WaitGroup

	severed atomic.Bool // connections are closed, and new ones closed at once

	mu    sync.Mutex // guards what follows
	conns map[net.Conn]struct{}
	watch func(toTarget bool, b []byte) verdict // asked about everything; nil: pass
}

// newProxy starts a proxy to target. The caller closes it.
func newProxy(target string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{addr: l.Addr().String(), target: target, l: l, conns: make(map[net.Conn]struct{})}
	p.wg.Go(p.accept)
	return p, nil
}

// close ends the proxy and waits for its goroutines.
func (p *proxy) close() {
	p.sever()
	p.l.Close()
	p.wg.Wait()
}

// sever cuts the network: what is open breaks, and nothing gets through until
// mend.
func (p *proxy) sever() {
	p.severed.Store(true)
	p.drop()
}

// drop breaks what is open.
func (p *proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func (p *proxy) mend() { p.severed.Store(false) }

// inspect has watch asked about all bytes from now on; nil ends it.
func (p *proxy) inspect(watch func(toTarget bool, b []byte) verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watch = watch
}

func (p *proxy) accept() {
	for {
		near, err := p.l.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(near) })
	}
}

func (p *proxy) serve(near net.Conn) {
	defer near.Close()
	if !p.keep(near) {
		return
	}
	defer p.lose(near)
	dialer := net.Dialer{Timeout: 5 * time.Second}
	far, err := dialer.DialContext(context.Background(), "tcp", p.target)
	if err != nil {
		return
	}
	defer far.Close()
	if !p.keep(far) {
		return
	}
	defer p.lose(far)
	var both sync.WaitGroup
	both.Go(func() { p.copy(far, near, true) })
	both.Go(func() { p.copy(near, far, false) })
	both.Wait()
}

// copy passes bytes on until either side ends, and then closes both.
func (p *proxy) copy(to, from net.Conn, toTarget bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			p.mu.Lock()
			watch := p.watch
			p.mu.Unlock()
			what := pass
			if watch != nil {
				what = watch(toTarget, buf[:n])
			}
			if what == half {
				n /= 2
			}
			if what == cut {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil || what == half {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.severed.Load() {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *proxy) lose(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}
