//go:build linux

package loop

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a poller for the length of the test.
func start(t *testing.T) *Poller {
	t.Helper()
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want %v", err, context.Canceled)
		}
	})
	return p
}

// pair returns the two ends of a TCP connection.
func pair(t *testing.T) (here, there *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

// An owner collects what comes.
type owner struct {
	s       *Socket
	drained chan struct{}
	ended   chan error // why reading ended

	mu  sync.Mutex
	got bytes.Buffer
}

func (o *owner) Readable(buf []byte) {
	for {
		n, more, err := o.s.Read(buf)
		if err != nil && !errors.Is(err, ErrWouldBlock) {
			o.ended <- err
			return
		}
		o.mu.Lock()
		o.got.Write(buf[:n])
		o.mu.Unlock()
		if err == nil && more {
			continue
		}
		switch o.s.Yield() {
		case Over:
			return
		case Closed:
			o.ended <- net.ErrClosed
			return
		}
	}
}
func (o *owner) Drained() { o.drained <- struct{}{} }
func (o *owner) Broken()  {}

// watch makes a socket of one end and watches it.
func watch(t *testing.T, p *Poller, c *net.TCPConn) *owner {
	t.Helper()
	s, err := p.Take(c)
	if err != nil {
		t.Fatal(err)
	}
	o := &owner{s: s, drained: make(chan struct{}, 1), ended: make(chan error, 1)}
	if err := p.Watch(s, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return o
}

func TestReadUntilThePeerEnds(t *testing.T) {
	p := start(t)
	here, there := pair(t)
	o := watch(t, p, here)
	sent := bytes.Repeat([]byte("0123456789"), 100_000) // many times a loop's buffer
	if _, err := there.Write(sent); err != nil {
		t.Fatal(err)
	}
	there.Close() // with the last bytes, or after them
	if err := <-o.ended; !errors.Is(err, io.EOF) {
		t.Errorf("reading ended with %v, want EOF", err)
	}
	if !bytes.Equal(o.got.Bytes(), sent) {
		t.Errorf("read %d bytes, want the %d that were sent", o.got.Len(), len(sent))
	}
}

// Who takes something does not count as taking nothing, however much is left.
func TestWaitingBeginsAnew(t *testing.T) {
	p := start(t)
	here, there := pair(t)
	o := watch(t, p, here)
	if _, err := o.s.Write(make([]byte, 64<<20)); err != nil {
		t.Fatal(err)
	}
	first, waits := o.s.Waiting()
	if !waits {
		t.Fatal("nothing waits, want most of it")
	}
	buf := make([]byte, 1<<20)
	for since := first; since.Equal(first); {
		if _, err := there.Read(buf); err != nil {
			t.Fatal(err)
		}
		if since, waits = o.s.Waiting(); !waits {
			t.Fatal("all is taken, and it never looked as if some was")
		}
	}
}

func TestWriteWaitsForNobody(t *testing.T) {
	p := start(t)
	here, there := pair(t)
	o := watch(t, p, here)
	sent := bytes.Repeat([]byte("0123456789"), 1<<20) // more than the kernel takes
	if n, err := o.s.Write(sent[:len(sent)/2]); n != len(sent)/2 || err != nil {
		t.Fatalf("Write = %d, %v", n, err)
	}
	if _, waits := o.s.Waiting(); !waits || !o.s.AwaitDrained() || o.s.CloseWrite() {
		t.Fatal("nothing waits, want most of it")
	}
	if _, err := o.s.Write(sent[len(sent)/2:]); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(there, got); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("the peer read something else, or %v", err)
	}
	<-o.drained
	if o.s.AwaitDrained() || !o.s.CloseWrite() {
		t.Error("something waits, want nothing")
	}
}

func TestCloseTellsWhoEnds(t *testing.T) {
	tests := map[string]struct {
		reading   bool
		wantFirst bool // the closer is to end the connection
	}{
		"nobody reads":   {false, true},
		"somebody reads": {true, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := start(t)
			here, _ := pair(t)
			s, err := p.Take(here)
			if err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			s.reading = tt.reading
			s.mu.Unlock()
			if got := s.Close(); got != tt.wantFirst {
				t.Errorf("Close = %v, want %v", got, tt.wantFirst)
			}
			if s.Close() {
				t.Error("a second Close = true")
			}
			if got := s.Yield(); got != Closed {
				t.Errorf("Yield = %v, want Closed", got)
			}
			if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Write = %v, want %v", err, net.ErrClosed)
			}
			if _, _, err := s.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Read = %v, want %v", err, net.ErrClosed)
			}
		})
	}
}

// Descriptors are numbers, used again at once: while connections are closed and
// opened, nobody may write to one that has become another's.
func TestNumbersAreNotMixedUp(t *testing.T) {
	p := start(t)
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			for tag := range byte(12) {
				here, there := pair(t)
				s, err := p.Take(here)
				if err != nil {
					return err
				}
				o := &owner{s: s, drained: make(chan struct{}, 1), ended: make(chan error, 2)}
				if err := p.Watch(s, o); err != nil {
					return err
				}
				var writing sync.WaitGroup
				writing.Go(func() {
					for {
						if _, err := s.Write([]byte{tag}); err != nil {
							return
						}
					}
				})
				there.SetReadDeadline(time.Now().Add(time.Minute))
				got := make([]byte, 64)
				if _, err := io.ReadFull(there, got); err != nil {
					return err
				}
				s.Close()
				writing.Wait()
				rest, _ := io.ReadAll(there) // its error is a reset
				there.Close()
				for _, b := range append(got, rest...) {
					if b != tag {
						return errors.New("a connection got another's bytes")
					}
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}
