package node_test

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"pushcluster/pushnode/node"
	"pushcluster/shared/push"
	"pushcluster/shared/signature"
)

// A lateTaker holds who takes the connection over until goOn is closed. Its server
// has forgotten the request by then, which is when it closes taken.
type lateTaker struct {
	http.ResponseWriter
	taken chan<- struct{}
	goOn  <-chan struct{}
}

func (w lateTaker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	close(w.taken)
	<-w.goOn
	return conn, rw, err
}

// stopDuring stops node 0, and wants it to have given up its lease, and not to have
// ended before goOn is closed.
func (c *cluster) stopDuring(goOn chan<- struct{}) {
	c.t.Helper()
	n := c.nodes[0]
	stopped := make(chan struct{})
	go func() { defer close(stopped); n.stop() }()
	eventually(c.t, "the node has drained", func() bool {
		live, err := c.reg.Nodes(c.t.Context(), []push.NodeID{n.id})
		return err == nil && len(live) == 0
	})
	select {
	case <-stopped:
		c.t.Error("the node has ended, and what it was asked before has not")
	case <-time.After(100 * time.Millisecond):
	}
	close(goOn)
	<-stopped
}

func TestEndWaitsForAHandshake(t *testing.T) {
	c := newCluster(t, node.Config{}, 1)
	public, taken, goOn := c.nodes[0].Public(), make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		public.ServeHTTP(lateTaker{w, taken, goOn}, r)
	}))
	t.Cleanup(s.Close)
	dialed := make(chan struct{})
	go func() {
		defer close(dialed)
		ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.URL, "http")+"/connection/websocket", nil)
		if err == nil { // else it was cut off before it was answered
			ws.Close()
		}
	}()
	<-taken
	c.stopDuring(goOn)
	<-dialed
}

func TestEndWaitsForAnOrder(t *testing.T) {
	c := newCluster(t, node.Config{}, 0)
	held := &heldStore{Store: c.store}
	c.store = held
	c.start(node.Config{})
	a := dial(t, c.nodes[0], "device=phone")
	a.connect("42 news", "")
	api := httptest.NewServer(c.nodes[0].Internal(signature.NewVerifier(signature.VerifierConfig{}, c.keys)))
	t.Cleanup(api.Close)
	came, goOn := held.next("AdvanceCursors")
	ordered := make(chan struct{})
	go func() {
		defer close(ordered)
		id := push.NewNodeID(strings.TrimPrefix(api.URL, "http://"), "x") // whose server does not end with the node
		c.post(id, "/v1/node/subscribe", push.SubscribeRequest{User: "42", Channel: "news"})
	}()
	<-came
	a.ws.Close()
	c.stopDuring(goOn)
	<-ordered
}
