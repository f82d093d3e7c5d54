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

// A deadlineWriter notes until when the answer may be written.
type deadlineWriter struct {
	http.ResponseWriter
	until time.Time
}

func (w *deadlineWriter) SetWriteDeadline(until time.Time) error {
	w.until = until
	return nil
}

// Whoever does not read its answer does not keep the node from ending for long.
func TestAnswersHaveADeadline(t *testing.T) {
	const commandTime = 30 * time.Second
	c := newCluster(t, node.Config{CommandTimeout: commandTime}, 1)
	n := c.nodes[0]
	tests := map[string]struct {
		handler http.Handler
		ask     func(url string)
	}{
		"a handshake that is refused": {n.Public(), func(url string) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/connection/websocket", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Origin", "https://elsewhere.example")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}},
		"an order": {n.Internal(signature.NewVerifier(signature.VerifierConfig{}, c.keys)), func(url string) {
			id := push.NewNodeID(strings.TrimPrefix(url, "http://"), "x")
			c.post(id, "/v1/node/unsubscribe", push.SubscribeRequest{User: "42", Channel: "news"})
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := &deadlineWriter{}
			s := httptest.NewServer(http.HandlerFunc(func(under http.ResponseWriter, r *http.Request) {
				w.ResponseWriter = under
				tt.handler.ServeHTTP(w, r)
			}))
			before := time.Now()
			tt.ask(s.URL)
			s.Close()
			if w.until.Before(before.Add(commandTime)) || w.until.After(time.Now().Add(2*commandTime)) {
				t.Errorf("it may be written until %v, which is %v from when it was asked for", w.until, w.until.Sub(before))
			}
		})
	}
}
