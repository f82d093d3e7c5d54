package chaos

import (
	"io"
	"net"
	"testing"
	"time"
)

// echo starts a server that sends back what it gets, for the length of the test.
func echo(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

func TestProxy(t *testing.T) {
	tests := map[string]struct {
		set  func(p *proxy)
		want string // what comes back of "hello\n"
	}{
		"passes":             {func(*proxy) {}, "hello\n"},
		"passes, watched":    {func(p *proxy) { p.inspect(func(bool, []byte) verdict { return pass }) }, "hello\n"},
		"severed":            {func(p *proxy) { p.sever() }, ""},
		"mended":             {func(p *proxy) { p.sever(); p.mend() }, "hello\n"},
		"request cut":        {func(p *proxy) { p.inspect(func(toTarget bool, _ []byte) verdict { return choose(toTarget, cut) }) }, ""},
		"answer cut":         {func(p *proxy) { p.inspect(func(toTarget bool, _ []byte) verdict { return choose(!toTarget, cut) }) }, ""},
		"half of the answer": {func(p *proxy) { p.inspect(func(toTarget bool, _ []byte) verdict { return choose(!toTarget, half) }) }, "hel"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := newProxy(echo(t))
			if err != nil {
				t.Fatal(err)
			}
			defer p.close()
			tt.set(p)
			c, err := net.Dial("tcp", p.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write([]byte("hello\n")) // a severed proxy may have closed it
			got := make([]byte, 6)
			n, _ := io.ReadFull(c, got)
			if string(got[:n]) != tt.want {
				t.Errorf("got %q, want %q", got[:n], tt.want)
			}
		})
	}
}

func choose(it bool, v verdict) verdict {
	if it {
		return v
	}
	return pass
}

func TestProxyBreaksWhatIsOpen(t *testing.T) {
	p, err := newProxy(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p.drop()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open after the network broke")
	}
}
