package node

import (
	"bufio"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"pushcluster/pushnode/verify"
	"pushcluster/shared/push"
	"pushcluster/shared/serve"
)

// Public returns the handler of the public port: the WebSocket endpoint at
// /connection/websocket, /healthz and /readyz.
func (n *Node) Public() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+socketPath, n.handshake)
	mux.Handle("/", serve.Health(n.log,
		serve.Check{Name: "lease", Probe: n.holdsLease},
		serve.Check{Name: "redis", Probe: n.reg.Ready},
		serve.Check{Name: "auth", Probe: n.verifier.Ready},
	))
	return mux
}

// Buffers of a WebSocket: what clients send is small, and a connection that an
// event loop reads has no buffer of its own; what they are sent is framed in a
// buffer that is theirs only while it is written.
const (
	readBuffer  = 512
	writeBuffer = 512
)

var upgrader = websocket.Upgrader{
	WriteBufferSize: writeBuffer,
	WriteBufferPool: &sync.Pool{},
	Subprotocols:    []string{"centrifuge-json", "centrifuge-protobuf"},
	CheckOrigin:     func(*http.Request) bool { return true }, // checked before, with a better answer
}

// handshake upgrades a request to a WebSocket. What can be refused is refused
// before, with an HTTP status.
func (n *Node) handshake(w http.ResponseWriter, r *http.Request) {
	q := readQuery(r.URL.RawQuery)
	c := &client{node: n, device: push.Device(strings.Clone(q.device)), framePing: q.framePing}
	n.bounded(w)
	p := notServing()
	if n.guests.enter() {
		defer n.guests.leave()
		p = n.refusal(r, c, q.token)
	}
	if p != nil {
		n.metrics.refused.WithLabelValues(string(p.Code)).Inc()
		serve.Problem(w, r, p)
		return
	}
	c.codec, c.id, c.pass().opened = codecJSON, uuid.New(), n.moment(time.Now())
	c.intake = uint8(rand.N(intakes))
	if accept, ok := plainHandshake(r); ok {
		if answer := frontOf(w); answer != nil {
			if q.protobuf {
				c.codec = codecProtobuf
			}
			n.openPlain(c, w, accept, answer)
			return
		}
	}
	taker := &socketTaker{ResponseWriter: w, node: n}
	ws, err := n.upgrade(c, taker, r)
	if err != nil {
		n.metrics.refused.WithLabelValues(string(push.CodeBadRequest)).Inc()
		return // upgrade has answered
	}
	if q.protobuf {
		c.codec = codecProtobuf
	}
	n.open(c, ws, taker.answer)
}

// upgrade answers the handshake. It returns the WebSocket of a connection that a
// goroutine is to read; for an event loop an intake has one.
func (n *Node) upgrade(c *client, taker *socketTaker, r *http.Request) (*websocket.Conn, error) {
	in := n.intakes[c.intake]
	taker.intake = in
	in.mu.Lock() // the upgrader looks at the buffers
	ws, err := upgrader.Upgrade(taker, r, nil)
	in.bw.Reset(io.Discard) // gorilla had it write to the connection
	in.mu.Unlock()
	if err != nil {
		return nil, err
	}
	c.sock = taker.taken
	if ws.Subprotocol() == "centrifuge-protobuf" {
		c.codec = codecProtobuf
	}
	if s, ok := c.sock.(*socket); !ok || s.shallow {
		return nil, nil // an intake has one
	}
	ws.SetReadLimit(n.cfg.MaxFrame)
	hearControls(ws, func() peer { return c })
	return ws, nil
}

// open takes a connection in and begins to read it. One whose request the front
// read comes with the right to read, which whoever answers goes on to use.
func (n *Node) open(c *client, ws *websocket.Conn, answer *frontAnswer) {
	if !n.admit(c) {
		c.close(push.CloseShutdown)
		c.abort(gone)
		return
	}
	if s, ok := c.sock.(pollSocket); ok {
		if answer != nil {
			s.Handover(c)
			c.unread, answer.next = answer.unread, c.readOn
			return
		}
		if err := n.poller.Watch(s.Socket, c); err != nil {
			n.log.Warn("connection not watched", "client", c.id.String(), "err", err)
			c.abort(push.CloseInternal)
		}
		return
	}
	c.flush() // where the socket has TLS, the answer to the handshake waits
	if ws == nil {
		n.spawn(c.listen)
		return
	}
	n.spawn(func() { c.run(ws) })
}

func notServing() *push.Problem {
	return push.NewProblem(push.CodeUnavailable, "this node is not serving; another will")
}

// refusal says why the request may not become a connection, nil if it may. A
// token that the handshake carries, in the query or in a header that counts more,
// is verified here.
func (n *Node) refusal(r *http.Request, c *client, token string) *push.Problem {
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		return push.NewProblem(push.CodeBadRequest, "a request that opens a WebSocket has no body")
	}
	if n.state.Load() != stateServing {
		return notServing()
	}
	if !n.originAllowed(r) {
		if origin, ok := n.strangers.first(r.Header.Get("Origin")); ok {
			n.log.Warn("page refused: its origin is neither this host nor in ORIGINS", "origin", origin)
		}
		return push.NewProblem(push.CodeForbiddenOrigin, "origin %.200q is neither this host nor in ORIGINS", r.Header.Get("Origin"))
	}
	if err := c.device.Check(); err != nil {
		return push.NewProblem(push.CodeBadRequest, "%v", err)
	}
	if bearer, ok := bearerToken(r); ok {
		token = bearer
	}
	if token == "" {
		return nil
	}
	identity, err := n.verifier.Verify(n.commandContext(), token)
	switch {
	case errors.Is(err, verify.ErrExpired):
		return push.NewProblem(push.CodeTokenExpired, "get a new token and connect again")
	case errors.Is(err, verify.ErrInvalid):
		return push.NewProblem(push.CodeTokenInvalid, "the token in the handshake is not acceptable")
	case err != nil:
		n.log.Warn("token not verified", "err", err)
		return push.NewProblem(push.CodeUnavailable, "the token cannot be verified at the moment")
	}
	c.pass().hello = identity
	return nil
}

// bearerToken returns the token of the Authorization header, where there is one.
func bearerToken(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	return strings.TrimSpace(token), true
}

// originAllowed reports whether the page that opens the connection may. What
// sends no Origin is no browser and is judged by its token alone.
func (n *Node) originAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.Contains(n.cfg.Origins, "*") {
		return true
	}
	if slices.ContainsFunc(n.cfg.Origins, func(o string) bool { return strings.EqualFold(o, origin) }) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// A socketTaker gives the WebSocket a transport in place of the connection that
// it takes over.
type socketTaker struct {
	http.ResponseWriter
	node   *Node
	intake *intake
	taken  transport
	answer *frontAnswer // set if the front read the request: the right to read comes with it
}

// Hijack takes the connection over (http.Hijacker).
func (t *socketTaker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if fc, ok := c.(frontConn); ok {
		t.intake.take(nil) // it may hold what another connection was closed for
		t.taken, t.answer = fc.pollSocket, fc.answer
		return fc.pollSocket, bufio.NewReadWriter(t.intake.br, t.intake.bw), nil
	}
	if h, ok := c.(*serve.HeardConn); ok && h.AllRead() {
		c = h.Conn
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok || t.node.poller == nil || rw.Reader.Buffered() > 0 {
		s := newSocket(c)
		t.taken = s
		if rw.Reader.Buffered() > 0 {
			return s, rw, nil // which the upgrader refuses
		}
		if s.shallow {
			t.intake.take(nil)
			return s, bufio.NewReadWriter(t.intake.br, t.intake.bw), nil
		}
		return s, bufio.NewReadWriter(bufio.NewReaderSize(s, readBuffer), rw.Writer), nil
	}
	s, err := t.node.poller.Take(tcp)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	p := pollSocket{s}
	t.taken = p
	t.intake.take(nil)
	return p, bufio.NewReadWriter(t.intake.br, t.intake.bw), nil
}
