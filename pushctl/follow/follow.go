// Package follow receives a user's messages from a push node with the SDK of the
// client protocol, as an app does, and comes back by itself when the connection
// ends.
package follow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

// endpoint is where nodes take WebSockets.
const endpoint = "/connection/websocket"

// handshakeTime is how long a connection may take to open, its TLS included. The
// SDK's own second is short for a line far away, and for a server that is busy.
const handshakeTime = 10 * time.Second

// ErrEnough is what take returns with the last message that it wants: it has taken
// that one, too.
var ErrEnough = errors.New("enough")

// Config says whose messages to follow, and where.
type Config struct {
	Node   string // the URL of a node: http(s) or ws(s), with or without its path
	Device string // makes the server remember what was received; may be empty
	Ack    bool   // acknowledge what was taken; needs a Device
	Topics []string
	// Token returns a token that counts, each time one is needed.
	Token func(ctx context.Context) (string, error)
}

// A Message is one publication.
type Message struct {
	Channel string          `json:"channel"`
	Offset  uint64          `json:"offset"`
	ID      string          `json:"id,omitempty"`
	Event   string          `json:"event,omitempty"`
	At      string          `json:"at,omitempty"`
	Trace   string          `json:"trace,omitempty"`
	Data    json.RawMessage `json:"data"`
}

// An Ended is a connection that the server ended for good.
type Ended struct {
	Code   uint32
	Reason string
}

// Error says with which code.
func (e *Ended) Error() string {
	return fmt.Sprintf("the server closed the connection for good: %s (%d)", e.Reason, e.Code)
}

// An Unreached is a first socket that could not be opened.
type Unreached struct {
	Node string
	Err  error // the SDK's
}

// Error says which node was tried.
func (e *Unreached) Error() string { return fmt.Sprintf("node %s: %v", e.Node, e.Err) }

// Unwrap returns what the SDK said.
func (e *Unreached) Unwrap() error { return e.Err }

// A Refused is a first connect that the node answered with an error.
type Refused struct {
	Node      string
	Code      uint32
	Reason    string
	Temporary bool // the same may do better later
}

// Error says which node, and with which code.
func (e *Refused) Error() string {
	return fmt.Sprintf("node %s refused: %s (%d)", e.Node, e.Reason, e.Code)
}

// Address returns where a client connects to the node at rawURL.
func Address(rawURL string) (string, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" || u.Fragment != "" {
		return "", errors.New("the URL of a node must be http(s)://HOST[:PORT] or ws(s)://HOST[:PORT]")
	}
	switch u.Scheme {
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	case "ws", "wss":
	default:
		return "", fmt.Errorf("nodes do not speak %q; their URL begins with http, https, ws or wss", u.Scheme)
	}
	if u.Path = strings.TrimSuffix(u.Path, "/"); u.Path == "" {
		u.Path = endpoint
	}
	return u.String(), nil
}

// A follower is one call of Run.
type follower struct {
	ctx    context.Context // of the calls that the SDK makes; ends with Run
	cfg    Config
	take   func(Message) error
	told   func(string)
	client *centrifuge.Client
	acks   *acks // nil: nothing is acknowledged

	ended chan struct{} // closed once it is over

	mu        sync.Mutex // guards what follows; held while take runs
	over      bool
	err       error // why it is over
	connected bool  // it has been, at least once
}

// Run connects and gives every message to take, and what happens to the
// connection to told, both from one goroutine at a time. It ends when ctx does,
// with nil; when take returns an error, with that; when the node cannot be reached
// at first, with an [*Unreached]; when no token comes, with the error of
// [Config.Token]; or when the server does not want it, with a [*Refused], an
// [*Ended] or what is wrong. A message with which take returned an error is not
// acknowledged, unless that was [ErrEnough].
func Run(ctx context.Context, cfg Config, take func(Message) error, told func(string)) error {
	address, err := Address(cfg.Node)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	token, err := cfg.Token(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		told("no token: " + err.Error())
		return nil
	case err != nil:
		return err
	}
	f := &follower{ctx: ctx, cfg: cfg, take: take, told: told, ended: make(chan struct{})}
	conn := centrifuge.Config{
		Token: token, Name: "pushctl", HandshakeTimeout: handshakeTime,
		GetToken: func(centrifuge.ConnectionTokenEvent) (string, error) { return cfg.Token(ctx) },
	}
	if cfg.Device != "" {
		if conn.Data, err = json.Marshal(map[string]string{"device": cfg.Device}); err != nil {
			return err
		}
	}
	f.client = centrifuge.NewJsonClient(address, conn)
	defer f.client.Close()
	f.listen()
	if cfg.Ack {
		f.acks = newAcks(f.client, told)
		var running sync.WaitGroup
		running.Go(func() { f.acks.run(ctx) })
		defer f.acks.flush() // third
		defer running.Wait() // second
		defer cancel()       // first
	}
	if err := f.subscribe(); err != nil {
		return err
	}
	if err := f.client.Connect(); err != nil {
		f.failed(err) // of most it was told already
	}
	select {
	case <-ctx.Done():
		f.end(nil)
	case <-f.ended:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// end notes why it is over; the first reason counts. When it returns, take does
// not run and is not called any more.
func (f *follower) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endLocked(err)
}

func (f *follower) endLocked(err error) {
	if f.over {
		return
	}
	f.over, f.err = true, err
	close(f.ended)
}

// listen has the SDK tell what happens.
func (f *follower) listen() {
	f.client.OnConnected(func(centrifuge.ConnectedEvent) {
		f.mu.Lock()
		f.connected = true
		f.mu.Unlock()
		f.told("connected to " + f.cfg.Node)
	})
	f.client.OnConnecting(func(e centrifuge.ConnectingEvent) {
		if e.Code > 0 { // 0 is the first connect
			f.told(fmt.Sprintf("the connection ended: %s (%d); coming back", e.Reason, e.Code))
		}
	})
	f.client.OnDisconnected(func(e centrifuge.DisconnectedEvent) { f.end(&Ended{e.Code, e.Reason}) })
	f.client.OnError(func(e centrifuge.ErrorEvent) { f.failed(e.Error) })
	f.client.OnPublication(func(e centrifuge.ServerPublicationEvent) { f.publication(e.Channel, e.Publication) })
}

// subscribe asks for the topics; that is done once the client is connected.
func (f *follower) subscribe() error {
	for _, topic := range f.cfg.Topics {
		sub, err := f.client.NewSubscription(topic, centrifuge.SubscriptionConfig{Recoverable: true})
		if err != nil {
			return fmt.Errorf("topic %q: %w", topic, err)
		}
		sub.OnPublication(func(e centrifuge.PublicationEvent) { f.publication(topic, e.Publication) })
		sub.OnUnsubscribed(func(e centrifuge.UnsubscribedEvent) {
			f.end(fmt.Errorf("topic %q cannot be subscribed to: %s (%d)", topic, e.Reason, e.Code))
		})
		if err := sub.Subscribe(); err != nil {
			return fmt.Errorf("topic %q: %w", topic, err)
		}
	}
	return nil
}

// failed tells of an error that the SDK goes on after. Before the first
// connection nobody knows whether there is anything to go on with: that ends it.
func (f *follower) failed(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.over:
	case f.connected:
		f.told(err.Error())
	default:
		f.endLocked(f.firstFailure(err))
	}
}

// firstFailure returns what Run says of an error before the first connection. Once
// the socket is open a node is there, whatever comes of the token or the connect
// command.
func (f *follower) firstFailure(err error) error {
	if _, ok := errors.AsType[centrifuge.TransportError](err); ok {
		return &Unreached{f.cfg.Node, err}
	}
	if refresh, ok := errors.AsType[centrifuge.RefreshError](err); ok {
		return refresh.Err
	}
	if refused, ok := errors.AsType[*centrifuge.Error](err); ok {
		return &Refused{f.cfg.Node, refused.Code, refused.Message, refused.Temporary}
	}
	return fmt.Errorf("node %s: %w", f.cfg.Node, err)
}

func (f *follower) publication(channel string, p centrifuge.Publication) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return
	}
	err := f.take(Message{
		Channel: channel, Offset: p.Offset, ID: p.Tags["id"], Event: p.Tags["event"], At: p.Tags["at"], Trace: p.Tags["trace"],
		Data: p.Data,
	})
	if err != nil {
		f.endLocked(err)
	}
	if f.acks != nil && (err == nil || errors.Is(err, ErrEnough)) {
		f.acks.add(channel, p.Offset)
	}
}
