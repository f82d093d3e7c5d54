package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/centrifugal/centrifuge-go"

	"pushcluster/localstack/stack"
)

// A person is a user at one device, with the official SDK for Go, who writes
// down what they are given.
type person struct {
	t      *testing.T
	client *centrifuge.Client

	mu      sync.Mutex // guards what follows
	address string     // host:port that the next connection goes to
	conn    *line
	got     []string // data of publications, in order
	ids     []string // their message ids
	told    []string // "connected", "connecting CODE", "disconnected CODE"
	changed chan struct{}
}

// come describes how a person comes: which token, from which device, with which
// of the SDK's two encodings.
type come struct {
	token    string
	device   string
	protobuf bool
	tls      *tls.Config // whom a person trusts where base is https://…
}

// person connects somebody to the node with the public URL base.
func newPerson(t *testing.T, base string, how come) *person {
	t.Helper()
	p := &person{t: t, changed: make(chan struct{}, 1)}
	p.moveTo(base)
	cfg := centrifuge.Config{
		Token: how.token, MinReconnectDelay: 20 * time.Millisecond, MaxReconnectDelay: 200 * time.Millisecond,
		// A balancer in front of the nodes: the address in the URL never matters.
		NetDialContext: p.dial, TLSConfig: how.tls,
	}
	if how.device != "" {
		cfg.Data = fmt.Appendf(nil, `{"device":%q}`, how.device)
	}
	newClient := centrifuge.NewJsonClient
	if how.protobuf {
		newClient = centrifuge.NewProtobufClient
	}
	p.client = newClient(stack.WebSocketURL(base), cfg)
	p.client.OnPublication(func(e centrifuge.ServerPublicationEvent) { p.take(e.Publication) })
	p.client.OnConnected(func(centrifuge.ConnectedEvent) { p.tell("connected") })
	p.client.OnConnecting(func(e centrifuge.ConnectingEvent) { p.tell(fmt.Sprint("connecting ", e.Code)) })
	p.client.OnDisconnected(func(e centrifuge.DisconnectedEvent) { p.tell(fmt.Sprint("disconnected ", e.Code)) })
	t.Cleanup(p.client.Close)
	if err := p.client.Connect(); err != nil {
		t.Fatal(err)
	}
	return p
}

// connected waits until the person is connected and returns them.
func (p *person) connected() *person {
	p.t.Helper()
	p.await("connected", func() bool { return p.client.State() == centrifuge.StateConnected })
	return p
}

func (p *person) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	p.mu.Lock()
	address := p.address
	p.mu.Unlock()
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn.(*net.TCPConn).SetReadBuffer(256 << 10) // so that a halted line fills up soon
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = &line{Conn: conn}
	return p.conn, nil
}

// A line is a connection that may be halted: then nothing is read from it, and
// what the other side sends piles up.
type line struct {
	net.Conn

	mu     sync.Mutex
	halted chan struct{} // nil: it is not
}

// Read waits while the line is halted (net.Conn).
func (l *line) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	l.mu.Lock()
	halted := l.halted
	l.mu.Unlock()
	if halted != nil {
		<-halted
	}
	return n, err
}

// halt stops reading on the present connection until the returned function is
// called.
func (p *person) halt() (resume func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	halted := make(chan struct{})
	p.conn.mu.Lock()
	defer p.conn.mu.Unlock()
	p.conn.halted = halted
	return sync.OnceFunc(func() { close(halted) })
}

// moveTo makes the next connection go to the node with the public URL base.
func (p *person) moveTo(base string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, p.address, _ = strings.Cut(base, "://")
}

// drop cuts the line, as a tunnel does; the SDK comes back by itself.
func (p *person) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn.Close()
}

// follow subscribes to a topic and waits until that is so.
func (p *person) follow(topic string) {
	p.t.Helper()
	sub, err := p.client.NewSubscription(topic, centrifuge.SubscriptionConfig{Recoverable: true})
	if err != nil {
		p.t.Fatal(err)
	}
	sub.OnPublication(func(e centrifuge.PublicationEvent) { p.take(e.Publication) })
	if err := sub.Subscribe(); err != nil {
		p.t.Fatal(err)
	}
	p.await("subscribed to "+topic, func() bool { return sub.State() == centrifuge.SubStateSubscribed })
}

func (p *person) take(pub centrifuge.Publication) {
	p.mu.Lock()
	p.got = append(p.got, string(pub.Data))
	p.ids = append(p.ids, pub.Tags["id"])
	p.mu.Unlock()
	p.wake()
}

func (p *person) tell(what string) {
	p.mu.Lock()
	p.told = append(p.told, what)
	p.mu.Unlock()
	p.wake()
}

func (p *person) wake() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// await waits until ok holds, looking again whenever something happens.
func (p *person) await(what string, ok func() bool) {
	p.t.Helper()
	end := time.After(time.Minute)
	for {
		if ok() {
			return
		}
		select {
		case <-p.changed:
		case <-time.After(50 * time.Millisecond): // states of the SDK change without an event
		case <-end:
			p.mu.Lock()
			defer p.mu.Unlock()
			p.t.Fatalf("waited a minute for %q; received %q, was told %q", what, p.got, p.told)
		}
	}
}

// receives waits until the person has got want, in this order and nothing else.
func (p *person) receives(want ...string) {
	p.t.Helper()
	p.await("the messages "+strings.Join(want, " "), func() bool { return len(p.received()) >= len(want) })
	if got := p.received(); strings.Join(got, " ") != strings.Join(want, " ") {
		p.t.Fatalf("received %q, want %q", got, want)
	}
}

func (p *person) received() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.got...)
}

// hears waits until the person was told what.
func (p *person) hears(what string) {
	p.t.Helper()
	p.await(what, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, w := range p.told {
			if w == what {
				return true
			}
		}
		return false
	})
}
